package page

import (
	"context"
	"testing"
	"time"

	"github.com/rewarm/rewarm/internal/words"
)

// What an application keeps is measured, wherever it keeps it.
func TestMemoryCountsWhatAnApplicationKeeps(t *testing.T) {
	h := newHost(t, nil)
	for kind, keep := range map[string]string{
		"objects": `window.kept=Array.from({length:2e6},(_,i)=>({i}));1`,
		"nodes":   `window.kept=document.createElement('div');for(let i=0;i<2e5;i++)kept.append(document.createElement('p'));1`,
		"buffers": `window.kept=new Uint8Array(64<<20).fill(1);1`,
	} {
		p := open(t, h, appShell)
		memory := func() uint64 {
			bytes, err := p.Memory(limited(t, 5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			return bytes
		}
		before := memory()
		var r evaluated[int]
		if err := p.evaluate(limited(t, testLimit), keep, &r); err != nil {
			t.Fatal(err)
		}
		if after := memory(); before == 0 || after < before+10<<20 {
			t.Errorf("%s: %d bytes before, %d after", kind, before, after)
		}
	}
}

// restless animates, polls, and notes what it is told of being seen.
const restless = `<!DOCTYPE html><html><head><title>restless</title><style>@keyframes turn{to{transform:rotate(360deg)}}#a{animation:turn 1s linear infinite}</style></head>
<body><div id="a">a</div><div id="app"></div><script>
window.timers = window.frames_ = 0; window.told = [];
setInterval(() => timers++, 5);
const frame = () => { frames_++; requestAnimationFrame(frame) };
frame();
for (const name of ['freeze', 'resume', 'visibilitychange', 'focus', 'blur', 'pagehide']) {
  document.addEventListener(name, () => told.push(name)); window.addEventListener(name, () => told.push(name));
}
window.prerenderTransitionTo = async path => {
  history.pushState({}, '', path);
  await new Promise(done => setTimeout(() => requestAnimationFrame(done), 1));
  document.getElementById('app').textContent = path + ' ' + document.visibilityState + ' ' + document.hasFocus() + ' ' + told.join();
};
</script></body></html>`

// A frozen page runs nothing, answers, and once thawed renders as it did: it
// never learns that it slept.
func TestFrozenPageRestsAndRendersTheSameAfterwards(t *testing.T) {
	h := newHost(t, nil)
	p := open(t, h, restless)
	read := func(expression string) int {
		t.Helper()
		var r evaluated[int]
		if err := p.evaluate(limited(t, testLimit), expression, &r); err != nil {
			t.Fatal(err)
		}
		return r.Result.Value
	}
	first := h.render(t, p, "/x", nil)
	if first.Status != words.StatusReady || read("frames_") == 0 {
		t.Fatal(brief(first))
	}
	for n := range 3 {
		p.Freeze()
		// Chrome freezes it a moment later; then nothing runs, whatever time passes.
		still := 0
		last := -1
		poll(t, "the page rests", func() bool {
			if now := read("timers + frames_"); now == last {
				still++
			} else {
				still, last = 0, now
			}
			return still > 50
		})
		if err := p.Probe(limited(t, testLimit)); err != nil {
			t.Fatal(err)
		}
		if err := p.Thaw(limited(t, testLimit)); err != nil {
			t.Fatal(err)
		}
		if again := h.render(t, p, "/x", nil); again.Body != first.Body || again.Status != first.Status {
			t.Fatalf("after it was thawed for the %d. time: %s, want %s", n+1, brief(again), brief(first))
		}
		before := read("frames_")
		poll(t, "frames come again", func() bool { return read("frames_") > before })
	}
	p.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	if _, err := p.Memory(ctx); err != nil {
		t.Error(err)
	}
	// It is closed frozen: that must not wait.
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
