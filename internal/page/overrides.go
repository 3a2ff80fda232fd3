package page

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/network"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/words"
)

// OptionsError is render options that the browser does not take, in its words.
type OptionsError struct{ Err error }

func (e *OptionsError) Error() string { return "render options: " + e.Err.Error() }

func (e *OptionsError) Unwrap() error { return e.Err }

func isRefused(err error) bool {
	_, ok := errors.AsType[*OptionsError](err)
	return ok
}

// restoreLimit bounds taking overrides back; a page that needs longer is not
// used again.
const restoreLimit = 2 * time.Second

// overrides are the DevTools commands that a render's options need, and those
// that take them back.
type overrides struct {
	apply, restore []chrome.Command
	blocks         blocked
}

// overridesOf are the overrides of options; the zero value for most, so that a
// usual render makes no extra round trip.
func overridesOf(o words.RenderOptions) overrides {
	var all overrides
	add := func(method string, apply, restore any) {
		all.apply = append(all.apply, chrome.Command{Method: method, Params: apply})
		all.restore = append(all.restore, chrome.Command{Method: method, Params: restore})
	}
	if v := o.Viewport; v != nil {
		all.apply = append(all.apply, window(v, asSpeck))
		all.restore = append(all.restore, window(nil, asSpeck))
		if v.Mobile {
			add(emulation.CommandSetTouchEmulationEnabled,
				emulation.SetTouchEmulationEnabledParams{Enabled: true}, emulation.SetTouchEmulationEnabledParams{})
		}
	}
	if o.UserAgent != "" || o.Locale != "" {
		add(emulation.CommandSetUserAgentOverride,
			emulation.SetUserAgentOverrideParams{UserAgent: o.UserAgent, AcceptLanguage: o.Locale}, emulation.SetUserAgentOverrideParams{})
	}
	if o.Locale != "" {
		add(emulation.CommandSetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: o.Locale}, emulation.SetLocaleOverrideParams{})
	}
	if o.Timezone != "" {
		add(emulation.CommandSetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: o.Timezone}, emulation.SetTimezoneOverrideParams{})
	}
	if all.blocks = blockedOf(o.Block); len(o.Block) > 0 {
		add(fetch.CommandEnable, all.blocks.intercept(), interceptDocuments())
		// What the cache has is not asked for, so it could not be blocked.
		add(network.CommandSetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true}, network.SetCacheDisabledParams{})
	}
	return all
}

// overridden performs the task under the overrides of its options. The
// application may have read them when it started, so it is started anew for
// such a render, and for the one after. A page that failed is not used again,
// so it is left as it is.
func (r *render) overridden(ctx context.Context) (Result, error) {
	p := r.page
	set := overridesOf(r.visit.Options)
	if len(set.apply) == 0 {
		if p.foreign {
			r.transition, p.foreign = false, false
		}
		return r.perform(ctx)
	}
	r.transition, p.foreign = false, true
	p.state.setBlocks(set.blocks)
	err := p.session.CallAll(ctx, set.apply...)
	p.intercepting = p.intercepting || len(r.visit.Options.Block) > 0
	var result Result
	switch {
	case isRemote(err):
		err = &OptionsError{Err: err} // some may be set
	case err == nil:
		if result, err = r.perform(ctx); err != nil && !isRefused(err) {
			return result, err
		}
	default:
		return result, err
	}
	p.state.setBlocks(blocked{})
	if !p.Reusable() {
		return result, err // it is closed; nothing has to be restored
	}
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreLimit)
	defer cancel()
	if p.session.CallAll(tidy, set.restore...) != nil {
		p.spoil()
	}
	return result, err
}

// blocked says which requests are not made.
type blocked struct {
	types    []network.ResourceType
	patterns []string
}

var blockable = [...]struct {
	name string
	kind network.ResourceType
}{
	{"image", network.ResourceTypeImage}, {"font", network.ResourceTypeFont},
	{"media", network.ResourceTypeMedia}, {"stylesheet", network.ResourceTypeStylesheet},
}

func blockedOf(names []string) (b blocked) {
next:
	for _, name := range names {
		for _, known := range blockable {
			if known.name == name {
				b.types = append(b.types, known.kind)
				continue next
			}
		}
		b.patterns = append(b.patterns, name)
	}
	return b
}

func interceptDocuments() fetch.EnableParams {
	return fetch.EnableParams{Patterns: []*fetch.RequestPattern{{URLPattern: "*", ResourceType: network.ResourceTypeDocument}}}
}

// literally escapes what Fetch gives a meaning to, besides the star.
var literally = strings.NewReplacer(`\`, `\\`, `?`, `\?`)

// intercept are the requests to pause: documents as always, and what is blocked.
func (b blocked) intercept() fetch.EnableParams {
	all := interceptDocuments()
	for _, kind := range b.types {
		all.Patterns = append(all.Patterns, &fetch.RequestPattern{URLPattern: "*", ResourceType: kind})
	}
	for _, pattern := range b.patterns {
		all.Patterns = append(all.Patterns, &fetch.RequestPattern{URLPattern: literally.Replace(pattern)})
	}
	return all
}

// match is whether a request of the type for the URL is blocked.
func (b blocked) match(kind network.ResourceType, url string) bool {
	return slices.Contains(b.types, kind) || slices.ContainsFunc(b.patterns, func(p string) bool { return matches(p, url) })
}

// matches is whether text is what pattern says, a star being any text.
func matches(pattern, text string) bool {
	first, rest, starred := strings.Cut(pattern, "*")
	text, ok := strings.CutPrefix(text, first)
	if !ok || !starred {
		return ok && text == ""
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return strings.HasSuffix(text, last)
}

func (s *state) setBlocks(b blocked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = b
}

func (s *state) blocking(e *fetch.EventRequestPaused) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocks.match(e.ResourceType, e.Request.URL)
}

// generation grows with every document of the main frame.
func (s *state) generation() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.documents
}

// blockedText begins the network's reason for a request that we blocked: it is
// no failure of the page.
const blockedText = "net::ERR_BLOCKED_BY_CLIENT"

// block answers a request that is not to be made. A style sheet is answered
// with an empty one: bundlers take one that fails for a broken release.
func (p *Page) block(e *fetch.EventRequestPaused) {
	if e.ResourceType != network.ResourceTypeStylesheet {
		_ = p.session.Post(fetch.CommandFailRequest, fetch.FailRequestParams{RequestID: e.RequestID, ErrorReason: network.ErrorReasonBlockedByClient})
		return
	}
	_ = p.session.Post(fetch.CommandFulfillRequest, fetch.FulfillRequestParams{RequestID: e.RequestID, ResponseCode: 200,
		ResponseHeaders: []*fetch.HeaderEntry{
			{Name: "Content-Type", Value: "text/css"}, {Name: "Access-Control-Allow-Origin", Value: "*"}, {Name: "Cache-Control", Value: "no-store"},
		}})
}
