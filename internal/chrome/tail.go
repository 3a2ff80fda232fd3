package chrome

import (
	"io"
	"strings"
	"sync"
)

// tailLimit is how much of the browser's stderr is kept, in bytes: enough for
// the reason of a failed start, which comes last.
const tailLimit = 8 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailLimit; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

// String is the tail as one line per message, without surrounding space.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(t.buf)), "?")
}

// drain copies r into the tail until r ends or is closed.
func (t *tail) drain(r io.Reader) { _, _ = io.Copy(t, r) }
