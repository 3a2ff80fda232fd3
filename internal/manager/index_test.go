package manager

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/rewarm/rewarm/internal/index"
	"github.com/rewarm/rewarm/internal/ledger"
	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

func decode[T any](t *testing.T, got reply, status int) (v T) {
	t.Helper()
	if got.status != status {
		t.Fatalf("%d %s, want %d", got.status, got.body, status)
	}
	if err := json.Unmarshal([]byte(got.body), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func startWithRealm(t *testing.T) *rig {
	t.Helper()
	r := start(t)
	if got := r.do("POST", "/host-shell", attrs(map[string]any{"hash": "tok", "source": "boot", "reporter": "a", "realms": []string{realm}})); got.status != 204 {
		t.Fatal(got)
	}
	return r
}

func TestARealmIsQueuedToBeIndexedOnceAtATime(t *testing.T) {
	r := startWithRealm(t)
	got := decode[wire.IndexStatus](t, r.do("POST", "/index", attrs(map[string]any{"realm": realm + "/"})), http.StatusAccepted)
	if got.Realm != realm || got.Run == nil || got.Run.ID != 1 || got.Run.Token != "tok" || got.Run.Class != "routine" || got.Pending != 1 {
		t.Errorf("first: %+v", got)
	}
	got = decode[wire.IndexStatus](t, r.do("POST", "/index", attrs(map[string]any{"realm": realm})), http.StatusAccepted)
	if got.Run.ID != 1 || got.Pending != 1 {
		t.Errorf("second: %+v", got)
	}
	got = decode[wire.IndexStatus](t, r.do("POST", "/index", attrs(map[string]any{"realm": realm, "urls": []string{realm + "/a", realm + "/b?x=1", realm + "/a#c"}})), http.StatusAccepted)
	if got.Pending != 3 {
		t.Errorf("pages: %+v", got)
	}
}

func TestIndexRequestsThatMakeNoSenseChangeNothing(t *testing.T) {
	r := startWithRealm(t)
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/index", "{", 400},
		{"POST", "/index", "{}", 400},
		{"POST", "/index", `{"data":{"attributes":{"realm":"` + realm + `","realm":"` + realm + `"}}}`, 400},
		{"POST", "/index", attrs(map[string]any{"realm": "ftp://x"}), 400},
		{"POST", "/index", attrs(map[string]any{"realm": "http://unknown"}), 404},
		{"POST", "/index", attrs(map[string]any{"realm": realm, "urls": []string{"http://elsewhere/"}}), 400},
		{"POST", "/index", attrs(map[string]any{"realm": realm, "urls": []string{realm + "/../x"}}), 400},
		{"POST", "/index", attrs(map[string]any{"realm": realm, "urls": slices.Repeat([]string{realm + "/a"}, wire.MaxIndexURLs+1)}), 400},
		{"GET", "/index", "", 400},
		{"GET", "/index?realm=http://unknown", "", 404},
		{"DELETE", "/index?all=true", "", 400},
		{"DELETE", "/index?realm=" + realm, "", 400},
		{"DELETE", "/index?all=true&url=x&realm=" + realm, "", 400},
	} {
		if got := r.do(test.method, test.path, test.body); got.status != test.status {
			t.Errorf("%s %s %.80s: %d %s, want %d", test.method, test.path, test.body, got.status, got.body, test.status)
		}
	}
	got := decode[wire.IndexStatus](t, r.do("GET", "/index?realm="+realm, ""), 200)
	if got.Run != nil || got.Pending != 0 || got.Failures == nil {
		t.Errorf("afterwards: %+v", got)
	}
	without := start(t)
	if got := without.do("POST", "/index", attrs(map[string]any{"realm": realm})); got.status != 404 {
		t.Errorf("without a release: %d", got.status)
	}
}

func TestIndexStatusAddsUpAndNamesTheDead(t *testing.T) {
	r := startWithRealm(t)
	ctx := t.Context()
	if err := r.store.PutRun(ctx, index.Run{ID: 7, Realm: realm, Sequence: 1, Token: "tok"}, 0); err != nil {
		t.Fatal(err)
	}
	for _, worker := range []string{"a", "b"} {
		if err := r.store.PutProgress(ctx, realm, 7, worker, ledger.Progress{Stored: 2, Failed: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.store.PutFailure(ctx, ledger.Failure{Realm: realm, URL: realm + "/x", Token: "tok", Dead: true, Tries: index.Tries{Renders: 4}, Reason: "it threw"}); err != nil {
		t.Fatal(err)
	}
	got := decode[wire.IndexStatus](t, r.do("GET", "/index?realm="+realm, ""), 200)
	if got.Stored != 4 || got.Failed != 2 || len(got.Failures) != 1 || got.Failures[0].Reason != "it threw" {
		t.Errorf("%+v", got)
	}
}

func TestAPurgeIsTriedBeforeItIsDone(t *testing.T) {
	r := startWithRealm(t)
	for _, path := range []string{"/a/1", "/a/2", "/b"} {
		if err := r.store.PutSnapshot(t.Context(), words.Snapshot{Realm: realm, Token: "tok", URL: realm + path}); err != nil {
			t.Fatal(err)
		}
	}
	prefix := "/index?realm=" + realm + "&prefix=" + url.QueryEscape(realm+"/a")
	for _, test := range []struct {
		query string
		pages int
	}{{"&dryRun=true", 2}, {"", 2}, {"", 0}} {
		got := decode[wire.Purged](t, r.do("DELETE", prefix+test.query, ""), 200)
		if got.Pages != test.pages || got.Snapshots != test.pages || len(got.URLs) != test.pages || got.DryRun != (test.query != "") {
			t.Errorf("%+v, want %+v", got, test)
		}
	}
	if n, err := r.store.CountSnapshots(t.Context(), realm, "tok"); err != nil || n != 1 {
		t.Errorf("%d left, %v", n, err)
	}
}
