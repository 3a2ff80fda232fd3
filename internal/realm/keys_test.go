package realm

import (
	"fmt"
	"testing"
	"time"
)

func TestMadeUpURLsCloseACacheForAnHourOnly(t *testing.T) {
	k, now := newKeys(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range maxKeys {
		if !k.ask(fmt.Sprint(i), now) {
			t.Fatal(i)
		}
	}
	for i := range 10 {
		k.got(fmt.Sprint(i))
	}
	k.got("of the release before")
	if k.ask("new", now) || !k.ask("17", now.Add(keyHold-time.Second)) || k.ask("new", now.Add(keyHold-time.Second)) {
		t.Error("more than maxKeys, or a known one is refused")
	}
	if now = now.Add(keyHold + keysPruned); !k.ask("new", now) {
		t.Error("closed after an hour")
	}
	if len(k.asked) != 12 { // the results, the one that was asked for again, the new one
		t.Errorf("%d keys", len(k.asked))
	}
	if k.forget(); len(k.asked) > 0 {
		t.Error("a release begins with the keys of the one before")
	}
}

// Only what has a result fills a cache for good.
func TestRendersAndModulesSayWhatHasAResult(t *testing.T) {
	now := time.Now()
	q, m := newRenderQueue(), newModules()
	for url, outcome := range map[string]string{"/stored": "stored", "/private": "private", "/refused": "refused"} {
		q.add(url, now)
		q.done(<-q.jobs, rendered{outcome: outcome}, now)
		if has := q.keys.asked[keyID(url)].IsZero(); has != (outcome == "stored") {
			t.Errorf("%s: %t", outcome, has)
		}
	}
	for url, err := range map[string]error{"/m": nil, "/none": errOfPage} {
		if _, err := m.join(moduleKey{"t", url}, now); err != nil {
			t.Fatal(err)
		}
		f := <-m.jobs
		f.err = err
		m.land(f, now)
		if has := m.keys.asked[keyID(url)].IsZero(); has != (err == nil) {
			t.Errorf("module %s: %t", url, has)
		}
	}
}
