package realm

import (
	"crypto/sha256"
	"maps"
	"time"
)

const (
	// maxKeys bounds what is rendered, and so stored, of one release.
	maxKeys = 10_000
	// keyHold is how long a key without a result counts: made-up URLs must not
	// close a cache until the next deploy.
	keyHold = time.Hour
	// keysPruned is how often a full set is looked through: each refused request
	// would do so else.
	keysPruned = time.Minute
)

// keys are the URLs that were asked for under the current release. Anyone may
// make them up, so there are at most maxKeys. Its owner locks.
type keys struct {
	asked  map[[16]byte]time.Time // when last; zero: it has a result
	pruned time.Time
}

func newKeys() *keys { return &keys{asked: map[[16]byte]time.Time{}} }

// forget starts a release: keys are counted anew.
func (k *keys) forget() {
	clear(k.asked)
	k.pruned = time.Time{}
}

// ask counts a URL that is asked for, and reports whether it may be rendered.
func (k *keys) ask(url string, now time.Time) bool {
	id := keyID(url)
	at, known := k.asked[id]
	if !known && len(k.asked) >= maxKeys && now.Sub(k.pruned) >= keysPruned {
		k.pruned = now
		maps.DeleteFunc(k.asked, func(_ [16]byte, at time.Time) bool { return !at.IsZero() && now.Sub(at) >= keyHold })
	}
	if !known && len(k.asked) >= maxKeys {
		return false
	}
	if !known || !at.IsZero() {
		k.asked[id] = now
	}
	return true
}

// got says that a URL has a result: it counts until the release is over.
func (k *keys) got(url string) {
	if id := keyID(url); !k.asked[id].IsZero() {
		k.asked[id] = time.Time{}
	}
}

func keyID(url string) [16]byte {
	sum := sha256.Sum256([]byte(url))
	return [16]byte(sum[:16])
}
