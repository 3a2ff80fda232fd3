package realm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/rewarm/rewarm/internal/client"
	"github.com/rewarm/rewarm/internal/fault"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// errOfPage marks what the page itself said; anything else says nothing of it.
var errOfPage = errors.New("the page said so")

func errRealmEnds() error {
	return fault.Refuse(time.Second, "The realm is changed or removed just now")
}

// maxDeps bounds the dependencies of one module.
const maxDeps = 10_000

func (s *site) moduleLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-s.modules.jobs:
			s.fly(ctx, f)
		}
	}
}

func (s *site) fly(serving context.Context, f *moduleFlight) {
	ctx, cancel := context.WithTimeoutCause(serving, s.o.RenderBudget, errors.New("render budget"))
	defer cancel()
	if s.modules.board(f, cancel) {
		f.got, f.err = s.renderModule(ctx, f.key)
	} else {
		f.err = context.Canceled
	}
	if f.err != nil && serving.Err() != nil {
		f.err = errRealmEnds()
	}
	s.modules.land(f, s.o.Now())
}

// renderModule renders a module until nothing it is made of was invalidated
// meanwhile, and stores it.
func (s *site) renderModule(ctx context.Context, key moduleKey) (words.Module, error) {
	kind := string(words.AffinityRealm)
	for range moduleTries {
		// Both before the render: what is heard or stored later is news to it.
		generation, known := s.invalidated.now()
		_, revision, _, unread := s.o.Store.Module(ctx, s.realm.URL, key.token, key.url)
		answer, err := s.o.Manager.Module(ctx,
			wire.VisitRequest{URL: key.url, Realm: s.realm.URL, AffinityType: &kind, AffinityValue: &s.realm.URL},
			client.Call{Pin: key.token, Budget: s.o.RenderBudget})
		if err = moduleError(answer, err, key.token); err != nil {
			return words.Module{}, err
		}
		m := words.Module{
			Realm: s.realm.URL, Token: answer.Token, URL: key.url, RenderedAt: s.o.Now(),
			Result: answer.Result.Result, Deps: absolute(key.url, answer.Result.Deps), Generation: generation,
		}
		if s.invalidated.since(m) {
			continue
		}
		if known && unread == nil {
			// A conflict: somebody else's is there, which is as good.
			if err := s.o.Store.PutModule(ctx, m, revision); err != nil && !errors.Is(err, ledger.ErrConflict) {
				s.o.Log.Warn("module not stored", "url", key.url, "token", m.Token, "error", err)
			}
		}
		return m, nil
	}
	return words.Module{}, fault.Refuse(time.Second, "It was invalidated while it was rendered")
}

// moduleError is why an answer is no module, nil if it is one.
func moduleError(answer client.ModuleAnswer, err error, pin words.Token) error {
	if status, ok := errors.AsType[*client.StatusError](err); ok {
		switch {
		case status.Status == http.StatusForbidden:
			return fault.New(fault.Forbidden, "%s", status.Message)
		case status.Status == http.StatusConflict, fault.Retryable(status.Status):
			return fault.Refuse(status.RetryAfter, "The fleet cannot render it now: %s", status.Message)
		}
		return fault.Wrap(fault.Upstream, err, "The fleet could not render it")
	}
	r := answer.Result
	switch {
	case err != nil:
		return err
	case answer.Token != pin:
		return fault.Refuse(time.Second, "It was rendered on another release")
	case r.Status == words.StatusReady && len(r.Result) > 0 && string(r.Result) != "null":
		return nil
	case r.Status == words.StatusReady:
		return fault.Wrap(fault.NotFound, errOfPage, "The application gives no module for this URL")
	case r.Error != nil && r.Error.Kind == words.PageErrorPage:
		return fault.Wrap(fault.Internal, errOfPage, "The module failed: %.500s", r.Error.Message)
	case r.Error != nil && r.Error.Kind == words.PageErrorNavigation:
		return fault.Wrap(fault.Upstream, fmt.Errorf("%.500s", r.Error.Message), "The page could not be reached")
	}
	return fault.Refuse(time.Second, "The page did not settle in time")
}

// absolute are dependencies as URLs, each once.
func absolute(module string, deps []string) []string {
	base, err := url.Parse(module)
	if err != nil {
		return []string{}
	}
	seen, found := map[string]bool{}, []string{}
	for _, dep := range deps[:min(len(deps), maxDeps)] {
		u, err := base.Parse(dep)
		if err != nil {
			continue
		}
		u.Fragment, u.RawFragment = "", ""
		if address := u.String(); !seen[address] {
			seen[address] = true
			found = append(found, address)
		}
	}
	return found
}
