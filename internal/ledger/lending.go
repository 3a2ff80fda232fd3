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
	lenders       = 4 // messages that a server answers at a time

	lendSubject = "rewarm.files"
	headerName  = "Rewarm-File"
	headerFrom  = "Rewarm-From" // the offset of the part that is asked for; none: who has it
	headerSum   = "Rewarm-Sum"
	headerSize  = "Rewarm-Size"
	headerPeer  = "Rewarm-Peer" // where parts are asked for
)

// Lent is a file that a realm server lends: its content's SHA-256 in hex, and
// its size in bytes.
type Lent struct {
	Sum  string
	Size int64
	Open func() (io.ReadSeekCloser, error)
}

// Offer is another realm server's file, to be had by [Ledger.Fetch].
type Offer struct {
	Name string
	Sum  string // of its content: SHA-256 in hex
	Size int64  // in bytes
	peer string
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

// lend says whether the file is here, by its sum, and gives the part that is
// asked for.
func (l *Ledger) lend(msg *nats.Msg, own string, find func(name string) (Lent, bool)) error {
	answer := nats.NewMsg(msg.Reply)
	f, ok := find(msg.Header.Get(headerName))
	if ok = ok && f.Size <= MaxLent; ok {
		answer.Header.Set(headerSum, f.Sum)
		answer.Header.Set(headerSize, strconv.FormatInt(f.Size, 10))
		answer.Header.Set(headerPeer, own)
	}
	from, err := strconv.ParseInt(msg.Header.Get(headerFrom), 10, 64)
	if ok && err == nil && from >= 0 && from < f.Size {
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
	}
	return l.nc.PublishMsg(answer)
}

// Find asks the other realm servers for a file, and returns the first offer.
// [ErrAbsent] says that none of those that answer has it.
func (l *Ledger) Find(ctx context.Context, name string) (offer Offer, err error) {
	err = l.bounded(ctx, func(ctx context.Context) error {
		offer, err = l.firstOffer(ctx, name)
		return err
	})
	if errors.Is(err, ErrAbsent) {
		return offer, fmt.Errorf("ledger: find %s: %w", name, ErrAbsent)
	}
	return offer, classify(ctx, "find "+name, err)
}

func (l *Ledger) firstOffer(ctx context.Context, name string) (Offer, error) {
	answers, err := l.nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		return Offer{}, err
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may have ended before
	ask := nats.NewMsg(lendSubject)
	ask.Reply = answers.Subject
	ask.Header.Set(headerName, name)
	if err := l.nc.PublishMsg(ask); err != nil {
		return Offer{}, err
	}
	agreed := false
	for until := time.Now().Add(lendersAnswer); ; {
		waiting, cancel := context.WithDeadline(ctx, until)
		msg, err := answers.NextMsgWithContext(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return Offer{}, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders): // nobody else is there
			return Offer{}, ErrAbsent
		case err != nil:
			return Offer{}, err
		case msg.Header.Get(headerSum) != "":
			return offerOf(name, msg)
		}
		if !agreed {
			agreed, until = true, time.Now().Add(lendersAgree)
		}
	}
}

func offerOf(name string, msg *nats.Msg) (Offer, error) {
	size, err := strconv.ParseInt(msg.Header.Get(headerSize), 10, 64)
	if err != nil || size < 0 || size > MaxLent {
		return Offer{}, fmt.Errorf("%w: a size of %q", ErrInvalid, msg.Header.Get(headerSize))
	}
	return Offer{Name: name, Sum: msg.Header.Get(headerSum), Size: size, peer: msg.Header.Get(headerPeer)}, nil
}

// Fetch writes the file that is offered. What was written before an error is
// not the file.
func (l *Ledger) Fetch(ctx context.Context, offer Offer, w io.Writer) error {
	return classify(ctx, "fetch "+offer.Name, l.bounded(ctx, func(ctx context.Context) error {
		hash := sha256.New()
		out := io.MultiWriter(w, hash)
		for written := int64(0); written < offer.Size; {
			ask := nats.NewMsg(offer.peer)
			ask.Header.Set(headerName, offer.Name)
			ask.Header.Set(headerFrom, strconv.FormatInt(written, 10))
			part, err := l.nc.RequestMsgWithContext(ctx, ask)
			if err != nil {
				return err
			}
			n := int64(len(part.Data))
			if part.Header.Get(headerSum) != offer.Sum || n == 0 || written+n > offer.Size {
				return errors.New("the file changed while it was lent")
			}
			if _, err := out.Write(part.Data); err != nil {
				return err
			}
			written += n
		}
		if hex.EncodeToString(hash.Sum(nil)) != offer.Sum {
			return errors.New("the file is not what its sum says")
		}
		return nil
	}))
}
