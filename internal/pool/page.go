package pool

import (
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

type state int

const (
	warming state = iota
	idle
	busy
)

type page struct {
	id       PageID
	state    state
	token    words.Token // of its document; "" while warming
	owner    Owner
	request  RequestID // that it is busy with
	depth    int       // of that request, or of the one it is warmed for
	since    time.Time // it is busy
	lastUsed time.Time
	warmedAt time.Time
	// idleSince is when it was warm or done; lastUsed may be what another page's was.
	idleSince time.Time
	uses      int
	worn      Reason      // why it is to be replaced though its release is right
	purpose   purpose     // what it was warmed for
	pin       words.Token // with forPin: the token it must have
	frozen    bool        // it rests
	isolated  bool        // closed after its one use
	retiring  Reason      // takes no more work, closed once idle
}

// purpose is what a page is warmed for; each has its own backoff, so that a
// pin that nothing can satisfy delays no other warm-up.
type purpose int

const (
	forStock   purpose = iota // to have as many as the size says
	forRecycle                // to replace a page that is behind
	forPin                    // for a request that needs one token
	forRenewal                // to replace a page that is worn out
	forNested                 // for a request that a render waits for
	purposes
)

// backoff is the state of warm-ups that did not succeed.
type backoff struct {
	failures int       // in a row
	waits    int       // in a row for which the host served an old shell
	retryAt  time.Time // none begins before
	detail   string    // why the last one did not succeed
}
