package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/rewarm/rewarm/internal/chrome"
	"github.com/rewarm/rewarm/internal/settle"
	"github.com/rewarm/rewarm/internal/words"
)

// defaultBudget bounds a render whose caller set no deadline.
const defaultBudget = 60 * time.Second

// reserve is what is kept of a budget for capturing what is there when it ends:
// a tenth, and no more than half a second.
func reserve(budget time.Duration) time.Duration { return min(budget/10, 500*time.Millisecond) }

// Render is [Page.Do] for a visit's document.
func (p *Page) Render(ctx context.Context, v words.Visit) (words.Capture, error) {
	r, err := p.Do(ctx, Task{Visit: v})
	return r.Capture, err
}

// Do takes the page to the visit's URL and gives what the task wants once it
// is settled; or, for a command, has the application run it.
// The deadline of ctx is the budget: when it ends the outcome is a capture that
// says so, not an error. An error means that the page gave no outcome: ctx was
// cancelled (the page is then not reusable), the page or its browser is gone
// (it wraps chrome.ErrGone), the visit is not for this page, its options are
// none that the browser takes ([OptionsError]), or a command was started and
// nobody knows what came of it ([ErrUnknown]).
func (p *Page) Do(ctx context.Context, t Task) (Result, error) {
	v := t.Visit
	p.report = RenderReport{}
	p.admit(v.Realm)
	to, err := url.Parse(v.URL)
	if err != nil || !p.onRealm(v.URL) {
		return Result{}, fmt.Errorf("%q is in none of the page's realms", v.URL)
	}
	limit := defaultBudget
	if v.Options.TimeoutMs > 0 {
		limit = time.Duration(v.Options.TimeoutMs) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	deadline, _ := ctx.Deadline()
	r := &render{page: p, task: t, visit: v, to: to, soft: deadline.Add(-t.Kind.reserve(time.Until(deadline)))}
	r.transition = (v.Options.Mode == words.ModeDefault || v.Options.Mode == words.ModeTransition) && p.isHome(v.URL)
	if err := r.authorize(ctx); err != nil {
		return Result{}, err
	}
	signed, sign := p.watchSign(ctx, t.Sign)
	r.sign = sign
	result, err := r.overridden(signed)
	if came := sign.stop(p); !came && err == nil && result.Status != words.StatusReady {
		err = errNoSign // it was not this task that it could not do
	}
	if isRefused(err) {
		return Result{}, err
	}
	if err != nil {
		p.spoil()
		return Result{}, fmt.Errorf("rendering %s: %w", v.URL, err)
	}
	if p.state.wasLogged() {
		// The console keeps alive every object that was written to it.
		_ = p.session.Post(runtime.CommandDiscardConsoleEntries, nil)
	}
	result.Report = p.report
	return result, nil
}

// perform does the task itself, whatever it is.
func (r *render) perform(ctx context.Context) (Result, error) {
	do := r.run
	if r.task.Kind == Command {
		do = r.command
	}
	result, err := do(ctx)
	if err == nil && result.Error != nil && result.SettledBy != words.SettledByAttribute {
		r.page.spoil()
	}
	return result, err
}

// render is one Render.
type render struct {
	page       *Page
	task       Task
	visit      words.Visit // the task's
	to         *url.URL
	soft       time.Time // when waiting ends and capturing what is there begins
	sign       *sign
	transition bool     // still to be tried
	left       left     // behind by routes before it, as of the last capture
	suspect    *Result  // of a transition; it may show something of them
	suspected  []string // of what
}

// authorize gives the page the visit's credentials, once. From then on it
// belongs to them.
func (r *render) authorize(ctx context.Context) error {
	p := r.page
	if r.visit.Auth == p.auth {
		return nil
	}
	if p.auth != "" {
		return ErrCredentials
	}
	p.auth = r.visit.Auth
	r.transition = false // the application starts with them
	var origins []string
	for _, realm := range p.realms {
		origins = append(origins, origin(realm))
	}
	list, _ := json.Marshal(origins) // strings always marshal
	return p.session.CallAll(ctx, chrome.Command{Method: cdpage.CommandAddScriptToEvaluateOnNewDocument,
		Params: cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: fmt.Sprintf(
			"if(window===window.top&&%s.includes(location.origin))try{localStorage.setItem('boxel-session',%s)}catch{}", list, quote(p.auth))}})
}

func (r *render) run(ctx context.Context) (Result, error) {
	began := time.Now()
	out, err := r.goThere(ctx)
	r.page.report.Go = time.Since(began)
	for err == nil { // bounded by r.soft
		if !out.timedOut && out.navigation == "" {
			began = time.Now()
			out, err = r.page.settle(ctx, r.soft, r.task.Kind.wanted())
			r.page.report.Settle += time.Since(began)
			if err != nil {
				break
			}
		}
		if out.rejected || r.page.report.Mode == words.ModeTransition && !r.page.mayTransition() {
			// The application would not, or loaded a document of its own, which
			// nobody attests: its document is given to it instead.
			r.page.report.FellBack = true
			out, err = r.navigate(ctx)
			continue
		}
		began = time.Now()
		r.page.report.Phases = r.page.state.phases(began)
		result, again, cerr := r.finish(ctx, out)
		r.page.report.Capture += time.Since(began)
		if !again {
			if cerr == nil && r.isSuspect(&result) {
				out, err = r.navigate(ctx)
				continue
			}
			r.judge(result)
			return result, cerr
		}
		out = outcome{timedOut: !time.Now().Before(r.soft)}
	}
	return Result{}, err
}

// goThere starts the transition or the navigation.
func (r *render) goThere(ctx context.Context) (outcome, error) {
	if !r.transition || !r.page.mayTransition() {
		return r.navigate(ctx)
	}
	p := r.page
	p.report.Mode = words.ModeTransition
	p.letThrough()
	p.teach(r.to.RequestURI())
	p.epoch++
	p.state.begin(settle.New(settle.Options{Kind: settle.Transition, WaitFor: r.visit.Options.WaitFor != ""}, time.Now()), p.epoch)
	expression := carrying(r.visit.Carry) + fmt.Sprintf("window.__rewarm&&__rewarm.io&&location.origin===%s?__rewarm.io.go(%d,%s,%s,%d,%s,%d):'none'",
		quote(origin(r.visit.URL)), p.epoch, quote(r.to.RequestURI()), quote(r.visit.Options.WaitFor), settle.ProofAfterTransition.Milliseconds(), p.realmList(), r.shotLimit())
	soft, cancel := context.WithDeadline(ctx, r.soft)
	defer cancel()
	var answer evaluated[string]
	err := p.evaluate(soft, expression, &answer)
	if err == nil || isRemote(err) {
		r.sign.give()
	}
	switch {
	case err == nil && answer.Result.Value == "ok":
		return outcome{}, nil
	case err == nil:
		return r.navigate(ctx)
	case isRemote(err): // the application loaded a document right away
		return outcome{}, nil
	}
	return late(ctx, err)
}

// shotLimit bounds the capture that may come with the end of a transition, in
// UTF-16 units; 0 wants none. It is escaped twice on its way, so a large
// document is asked for instead.
func (r *render) shotLimit() int {
	if r.task.Kind != Document {
		return 0
	}
	return 256 << 10
}

// mayTransition is whether the page holds a document of the application that
// holds nothing of the routes before, and transitions are worth trying.
func (p *Page) mayTransition() bool {
	p.state.mu.Lock()
	defer p.state.mu.Unlock()
	return p.state.attested && !p.residue.dirty && p.residue.debt < unworthy
}

func (r *render) navigate(ctx context.Context) (outcome, error) {
	p := r.page
	p.report.Mode = words.ModeNavigate
	r.sign.ask(p)
	p.moveTo(r.visit.URL)
	p.state.begin(settle.New(settle.Options{Kind: settle.Load, WaitFor: r.visit.Options.WaitFor != "", Static: !p.assets.scripts}, time.Now()), 0)
	p.residue.dirty, p.residue.taught = false, ""
	soft, cancel := context.WithDeadline(ctx, r.soft)
	defer cancel()
	if err := r.emptyStores(soft); err != nil {
		return late(ctx, err)
	}
	before := p.carryOnLoad(r.visit.Carry)
	if p.state.isBlank() {
		// The document comes in another process than the one that is told.
		if err := p.session.CallAll(soft, before...); err != nil {
			return late(ctx, err)
		}
		before = nil
	}
	failed, err := p.navigate(soft, r.visit.URL, before...)
	if err != nil {
		return late(ctx, err)
	}
	if want := r.visit.Options.WaitFor; want != "" {
		_ = p.session.Post(runtime.CommandEvaluate, runtime.EvaluateParams{Expression: "window.__rewarm&&__rewarm.io&&__rewarm.io.expect(" + quote(want) + ")"})
	}
	return outcome{navigation: failed}, nil
}

// late tells a budget that ended, which is an outcome, from other ends.
func late(ctx context.Context, err error) (outcome, error) {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(ctx.Err(), context.Canceled) {
		return outcome{timedOut: true}, nil
	}
	return outcome{}, err
}

func isRemote(err error) bool {
	_, ok := errors.AsType[*chrome.RemoteError](err)
	return ok
}

// settle waits until the page is settled, until soft (zero: only until ctx
// ends), or until there is nothing to wait for. A page that has to prove that it
// is quiet is captured with the proof, as wanted.
func (p *Page) settle(ctx context.Context, soft time.Time, wanted string) (outcome, error) {
	bounded, cancel := ctx, func() {}
	if !soft.IsZero() {
		bounded, cancel = context.WithDeadline(ctx, soft)
	}
	defer cancel()
	ends := func(err error) (outcome, error) {
		if soft.IsZero() {
			return outcome{}, err
		}
		return late(ctx, err)
	}
	for {
		out, over := p.state.look(time.Now())
		if over {
			return out, nil
		}
		var err error
		if out.decision.Prove > 0 {
			err = p.prove(bounded, out.decision.Prove, wanted)
		} else {
			err = p.waitChange(bounded, p.state.changed, out.decision.Next)
		}
		if err != nil {
			return ends(err)
		}
	}
}
