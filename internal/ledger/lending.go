package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrAbsent: no other realm server has the file.
var ErrAbsent = errors.New("no realm server has it")

const (
	// MaxLent bounds a file that is lent, in bytes.
	MaxLent = 64 << 20
	// lentPart is how much of a file is in a message, which holds 1 MiB.
	lentPart = 512 << 10
	// lendersAnswer is how long the first answer may take, and lendersAgree for
	// how long after a server that has not got the file the others are waited for.
	lendersAnswer = 2 * time.Second
	lendersAgree  = 250 * time.Millisecond
	lenders       = 4 // parts that a server reads at a time

	lendSubject = "rewarm.files"
	headerName  = "Rewarm-File"
	headerFrom  = "Rewarm-From" // the part's offset
	headerSum   = "Rewarm-Sum"
	headerSize  = "Rewarm-Size"
	headerPeer  = "Rewarm-Peer" // where the next part is asked for
)

// Lent is a file that a realm server lends: its content's SHA-256 in hex, and
// its size in bytes.
type Lent struct {
	Sum  string
	Size int64
	Open func() (io.ReadSeekCloser, error)
}

// Lend answers other realm servers that ask for a file of a release they have
// not got, until ctx ends. Files go over the store's connection, from server to
// server: nothing is stored, and no server needs to know another's address.
func (l *Ledger) Lend(ctx context.Context, find func(name string) (Lent, bool)) error {
	asked := make(chan *nats.Msg, 64) // what is beyond is asked of another
	own := nats.NewInbox()
	for _, subject := range []string{lendSubject, own} {
		sub, err := l.nc.ChanSubscribe(subject, asked)
		if err != nil {
			return classify(ctx, "lend files", err)
		}
		defer func() { _ = sub.Unsubscribe() }() // the connection may have ended before
	}
	var running sync.WaitGroup
	for range lenders {
		running.Go(func() {
			for {
				select {
				case msg := <-asked:
					if err := l.lend(msg, own, find); err != nil {
						l.log.Warn("file not lent", "name", msg.Header.Get(headerName), "error", err)
					}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	running.Wait()
	return nil
}

// lend answers with the part that is asked for; without a sum the file is not here.
func (l *Ledger) lend(msg *nats.Msg, own string, find func(name string) (Lent, bool)) error {
	answer := nats.NewMsg(msg.Reply)
	from, err := strconv.ParseInt(msg.Header.Get(headerFrom), 10, 64)
	f, ok := find(msg.Header.Get(headerName))
	if err == nil && ok && f.Size <= MaxLent && from >= 0 && (from < f.Size || from == 0) {
		content, err := f.Open()
		if err != nil {
			return err
		}
		defer content.Close()
		answer.Data = make([]byte, min(lentPart, f.Size-from))
		if _, err := content.Seek(from, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.ReadFull(content, answer.Data); err != nil {
			return err
		}
		answer.Header.Set(headerSum, f.Sum)
		answer.Header.Set(headerSize, strconv.FormatInt(f.Size, 10))
		answer.Header.Set(headerPeer, own)
	}
	return l.nc.PublishMsg(answer)
}

// Borrow writes a file that another realm server has, and returns its SHA-256
// in hex and its size. [ErrAbsent] says that none of those that answer has it;
// what was written before an error is not the file.
func (l *Ledger) Borrow(ctx context.Context, name string, w io.Writer) (sum string, size int64, err error) {
	err = l.bounded(ctx, func(ctx context.Context) error {
		first, err := l.firstPart(ctx, name)
		if err != nil {
			return err
		}
		sum = first.Header.Get(headerSum)
		if size, err = strconv.ParseInt(first.Header.Get(headerSize), 10, 64); err != nil || size < 0 || size > MaxLent {
			return fmt.Errorf("%w: a size of %q", ErrInvalid, first.Header.Get(headerSize))
		}
		return l.parts(ctx, name, first, size, sum, w)
	})
	if errors.Is(err, ErrAbsent) {
		return "", 0, fmt.Errorf("ledger: borrow %s: %w", name, ErrAbsent)
	}
	return sum, size, classify(ctx, "borrow "+name, err)
}

// firstPart is the beginning of the file, of whoever has it.
func (l *Ledger) firstPart(ctx context.Context, name string) (*nats.Msg, error) {
	answers, err := l.nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may have ended before
	if err := l.nc.PublishMsg(askFor(name, 0, lendSubject, answers.Subject)); err != nil {
		return nil, err
	}
	wait := lendersAnswer
	for until := time.Now().Add(wait); ; {
		waiting, cancel := context.WithDeadline(ctx, until)
		msg, err := answers.NextMsgWithContext(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders):
			return nil, ErrAbsent
		case err != nil:
			return nil, err
		case msg.Header.Get("Status") == "503": // nobody else is there
			return nil, ErrAbsent
		case msg.Header.Get(headerSum) != "":
			return msg, nil
		}
		if wait == lendersAnswer {
			wait = lendersAgree
			until = time.Now().Add(wait)
		}
	}
}

// parts writes the file, one part after the other, of the server that the first
// came from.
func (l *Ledger) parts(ctx context.Context, name string, part *nats.Msg, size int64, sum string, w io.Writer) error {
	hash := sha256.New()
	out := io.MultiWriter(w, hash)
	for written := int64(0); ; {
		if part.Header.Get(headerSum) != sum || len(part.Data) == 0 && written < size || written+int64(len(part.Data)) > size {
			return errors.New("the file changed while it was lent")
		}
		if _, err := out.Write(part.Data); err != nil {
			return err
		}
		if written += int64(len(part.Data)); written == size {
			break
		}
		var err error
		asked := askFor(name, written, part.Header.Get(headerPeer), "")
		if part, err = l.nc.RequestMsgWithContext(ctx, asked); err != nil {
			return err
		}
	}
	if hex.EncodeToString(hash.Sum(nil)) != sum {
		return errors.New("the file is not what its sum says")
	}
	return nil
}

func askFor(name string, from int64, subject, reply string) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Reply = reply
	msg.Header.Set(headerName, name)
	msg.Header.Set(headerFrom, strconv.FormatInt(from, 10))
	return msg
}
