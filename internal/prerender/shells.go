package prerender

import (
	"context"
	"fmt"
	"sync"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/words"
)

// oldShellError says that the host does not serve the shell that is wanted:
// nothing is broken, it is asked again.
type oldShellError struct {
	got    words.Token
	wanted words.Token
}

func (e *oldShellError) Error() string {
	if e.wanted == "" {
		return fmt.Sprintf("the host still serves release %s", e.got)
	}
	return fmt.Sprintf("the host serves release %s, not %s yet", e.got, e.wanted)
}

// keptShells is how many shells are kept: the current one, the one before it
// whose pages still render, and one on its way.
const keptShells = 3

// shells keeps the host shells that were fetched and attested, by token.
type shells struct {
	realm func() *client.Realm // to ask; any realm has the shell

	mu   sync.Mutex
	kept []words.Shell // oldest first
}

// get returns a shell that accepts says yes to. The wanted one is taken from
// memory when it was fetched before: its bytes are known, and a realm server
// that restarts just now delays nothing. Otherwise the host is asked, and what
// it gives is hashed, whatever replica or cache it came from.
func (s *shells) get(ctx context.Context, wanted words.Token, accepts func(words.Token) bool) (words.Shell, error) {
	if shell, ok := s.find(wanted); ok && accepts(wanted) {
		return shell, nil
	}
	shell, err := s.realm().Standby(ctx)
	if err != nil {
		return words.Shell{}, err
	}
	if !accepts(shell.Token) {
		return words.Shell{}, &oldShellError{got: shell.Token, wanted: wanted}
	}
	s.keep(shell)
	return shell, nil
}

func (s *shells) find(token words.Token) (words.Shell, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, shell := range s.kept {
		if token != "" && shell.Token == token {
			return shell, true
		}
	}
	return words.Shell{}, false
}

func (s *shells) keep(shell words.Shell) {
	if _, ok := s.find(shell.Token); ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, shell)
	s.kept = s.kept[max(0, len(s.kept)-keptShells):]
}
