package chrome

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// Transport carries whole DevTools messages. Send may block while the browser
// does not read; both return an error for good once the other side is gone.
type Transport interface {
	Send(msg []byte) error
	Receive() ([]byte, error)
}

// messageLimit bounds one message from the browser, in bytes. A page that logs
// a string of a gigabyte must not take our memory with it; the largest message
// we ask for is a capture of 16 MiB, escaped.
const messageLimit = 128 << 20

// errOversize says that one message was skipped for its size.
var errOversize = errors.New("message over the limit skipped")

// pipe is the transport over the browser's descriptors 3 and 4: JSON texts,
// each ended by a NUL byte.
type pipe struct {
	w *os.File
	r *bufio.Reader
}

func newPipe(w, r *os.File) *pipe {
	return &pipe{w: w, r: bufio.NewReaderSize(r, 64<<10)}
}

func (p *pipe) Send(msg []byte) error {
	// One write, so that a small message is one system call.
	_, err := p.w.Write(append(msg, 0))
	return err
}

func (p *pipe) Receive() ([]byte, error) {
	var msg []byte
	size := 0
	for {
		part, err := p.r.ReadSlice(0)
		size += len(part)
		if size <= messageLimit {
			msg = append(msg, part...)
		}
		switch {
		case err == nil && size > messageLimit:
			return nil, fmt.Errorf("%w: %d bytes", errOversize, size)
		case err == nil:
			return msg[:len(msg)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, err
		}
	}
}
