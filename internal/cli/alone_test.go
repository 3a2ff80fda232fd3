package cli

import (
	"bytes"
	"encoding/json"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

const aloneHTML = `<!doctype html><title>alone</title><div id="app"></div><script>
const app = document.getElementById('app');
app.textContent = 'wait';
if (location.pathname === '/throws') setTimeout(() => { throw new Error('boom') });
else if (location.pathname === '/never') window.prerenderReady = false;
else setTimeout(() => { app.textContent = 'hello from ' + location.pathname + location.search }, 20);
</script>`

// aloneSite serves the document and counts how often it was fetched.
func aloneSite(t *testing.T) (*httptest.Server, *int) {
	t.Helper()
	fetched := 0
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			http.NotFound(w, r)
		case "/moved":
			http.Redirect(w, r, "/there?q=1", http.StatusFound)
		case "/text":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "text")
		case "/empty":
			w.Header().Set("Content-Type", "text/html")
		case "/favicon.ico":
			http.NotFound(w, r)
		default:
			fetched++
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, aloneHTML)
		}
	}))
	t.Cleanup(site.Close)
	return site, &fetched
}

// runRender runs the command line with a temporary directory of its own, in
// which nothing may be left.
func runRender(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var stdout, stderr bytes.Buffer
	code = Main(t.Context(), append([]string{"render"}, args...), Streams{Out: &stdout, Err: &stderr})
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("%v left %v", args, left)
	}
	return code, stdout.String(), stderr.String()
}

func TestRenderAlone(t *testing.T) {
	site, fetched := aloneSite(t)
	code, out, said := runRender(t, site.URL+"/a?b=1")
	if code != 0 || !strings.Contains(out, "<title>alone</title>") || !strings.Contains(out, "hello from /a?b=1") {
		t.Errorf("exit %d, %s, %s", code, out, said)
	}
	if *fetched != 1 {
		t.Errorf("the document was fetched %d times", *fetched)
	}
	if code, out, said = runRender(t, site.URL+"/moved", "--format", "text"); code != 0 || out != "hello from /there?q=1\n" {
		t.Errorf("exit %d, %q, %s", code, out, said)
	}
	code, out, said = runRender(t, site.URL+"/a", "--format", "json")
	var doc wire.Document[wire.VisitResult]
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 || doc.Data.Attributes.Title != "alone" || doc.Data.ID != site.URL+"/a" {
		t.Errorf("exit %d, %v, %s, %s", code, err, out, said)
	}
}

func TestRenderAlonePictures(t *testing.T) {
	site, _ := aloneSite(t)
	code, out, said := runRender(t, site.URL, "--format", "png", "--viewport", "400x300")
	if size, err := png.DecodeConfig(strings.NewReader(out)); err != nil || code != 0 || size.Width != 400 || size.Height != 300 {
		t.Errorf("exit %d, %v, %v, %s", code, size, err, said)
	}
	for name, c := range map[string]struct {
		begins string
		args   []string
	}{
		"page.pdf":  {"%PDF-", nil},
		"page.PNG":  {"\x89PNG", []string{"--element", "#app"}},
		"page.jpg":  {"\xff\xd8\xff", []string{"--full-page"}},
		"page.webp": {"RIFF", nil},
		"page.txt":  {"hello from /\n", nil},
		"page.json": {"{\n", nil},
		"page.htm":  {"<!DOCTYPE html>", nil},
		"page":      {"<!DOCTYPE html>", nil},
		"page.xyz":  {"\x89PNG", []string{"--format", "png"}},
	} {
		file := filepath.Join(t.TempDir(), name)
		code, out, said := runRender(t, append([]string{site.URL + "/", "-o", file}, c.args...)...)
		raw, err := os.ReadFile(file)
		if code != 0 || out != "" || err != nil || !strings.HasPrefix(string(raw), c.begins) {
			t.Errorf("%s: exit %d, %q, %s, %v, %.20q", name, code, out, said, err, raw)
		}
	}
}

func TestRenderAloneTellsAllThatIsKnown(t *testing.T) {
	site, _ := aloneSite(t)
	code, out, said := runRender(t, site.URL+"/a", "--json", "--wait-for", "#app", "--block", "image", "--block", "*/ads/*")
	var doc wire.Document[wire.VisitResult]
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 || doc.Meta == nil || doc.Data.Attributes.Meta.Diagnostics == nil {
		t.Fatalf("exit %d, %v, %s, %s", code, err, out, said)
	}
	meta, diagnostics := doc.Meta, doc.Data.Attributes.Meta.Diagnostics
	if meta.HostShell.Rendered != words.TokenOf([]byte(aloneHTML)) || !meta.HostShell.Fresh || meta.Timing.TotalMs < meta.Timing.LaunchMs {
		t.Errorf("%+v", meta)
	}
	if diagnostics.Mode != words.ModeNavigate || diagnostics.SettledBy != words.SettledBySelector {
		t.Errorf("%+v", diagnostics)
	}
}

// A page that was not ready in time is written, and is no success.
func TestRenderOfAPartWritesItAndFails(t *testing.T) {
	site, _ := aloneSite(t)
	file := filepath.Join(t.TempDir(), "page.html")
	code, _, said := runRender(t, site.URL+"/never", "--timeout", "4s", "-o", file)
	raw, err := os.ReadFile(file)
	if code != 1 || err != nil || !strings.Contains(string(raw), "wait") || !strings.Contains(said, "the page had not settled when its budget ended") {
		t.Errorf("exit %d, %s, %v, %s", code, said, err, raw)
	}
}

func TestRenderAloneSaysWhatIsWrong(t *testing.T) {
	site, _ := aloneSite(t)
	file := filepath.Join(t.TempDir(), "kept.html")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "answered 404", []string{site.URL + "/gone", "-o", file}},
		{1, "is no HTML document", []string{site.URL + "/text"}},
		{1, "is an empty document", []string{site.URL + "/empty"}},
		{1, "cannot be reached", []string{"http://127.0.0.1:1/"}},
		{2, "is no http or https URL", []string{"ftp://127.0.0.1/"}},
		{2, "is no http or https URL", []string{"file:///etc/passwd"}},
		{2, "--allow-origin", []string{site.URL, "--allow-origin", "127.0.0.1:3000"}},
		{1, "no Chrome found", []string{site.URL, "--chrome", "/none"}},
		{1, "the page is error: page: Error: boom", []string{site.URL + "/throws"}},
		{1, "the page is partial: timeout", []string{site.URL + "/never", "--timeout", "4s"}},
		{1, "the page is error: page: no element matches \"#none\"", []string{site.URL, "--format", "png", "--element", "#none"}},
		{2, "\"a >> b\" is no CSS selector", []string{site.URL, "--format", "png", "--element", "a >> b"}},
		{2, "--format gif is none of html, text, json, png, jpeg, webp, pdf", []string{site.URL, "--format", "gif"}},
		{2, "are for pictures (png, jpeg, webp), not for pdf", []string{site.URL, "-o", "x.pdf", "--element", "p"}},
		{2, "are for pictures", []string{site.URL, "--full-page"}},
		{2, "neither fullPage nor pdf", []string{site.URL, "--format", "png", "--full-page", "--element", "p"}},
		{2, "--json and --format png exclude", []string{site.URL, "--json", "--format", "png"}},
		{2, "is no size such as 1280x720", []string{site.URL, "--viewport", "1280"}},
		{2, "at most 10000 by 10000 pixels", []string{site.URL, "--viewport", "12800x1"}},
		{1, "cannot be reached", []string{site.URL, "--via", "http://127.0.0.1:1", "--format", "pdf"}},
		{1, "cannot be reached", []string{site.URL, "--via", "http://127.0.0.1:1", "--format", "png"}},
	} {
		if code, _, said := runRender(t, c.args...); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%v: exit %d, %s; want %d, %s", c.args, code, said, c.code, c.want)
		}
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "kept" {
		t.Errorf("a failed render replaced the file: %q, %v", raw, err)
	}
}

// A page on this machine reaches its own origin. That it needs another is said
// with what to do, and the page is rendered without it.
func TestF13_RenderAloneReachesNoOtherPrivateOriginUnasked(t *testing.T) {
	asked := 0
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Access-Control-Allow-Origin", "*")
		_, _ = io.WriteString(w, "from the API")
	}))
	defer api.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><p id="app"></p><script>prerenderReady = false;
fetch('`+api.URL+`').then(r => r.text(), () => 'alone').then(text => { app.textContent = text; prerenderReady = true })</script>`)
	}))
	defer site.Close()
	code, out, said := runRender(t, site.URL, "--format", "text")
	if code != 0 || out != "alone\n" || asked != 0 || !strings.Contains(said, api.Listener.Addr().String()) || !strings.Contains(said, "--allow-origin") {
		t.Errorf("exit %d, %q, %s; the API was asked %d times", code, out, said, asked)
	}
	if code, out, said = runRender(t, site.URL, "--format", "text", "--allow-origin", api.URL); code != 0 || out != "from the API\n" || said != "" {
		t.Errorf("exit %d, %q, %s", code, out, said)
	}
}

func TestRenderViaAManagerThatDoesNotAnswerEnds(t *testing.T) {
	manager := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer manager.Close()
	code, out, said := runRender(t, "http://host.example/a", "--via", manager.URL, "--timeout", "200ms")
	if code != 1 || out != "" || !strings.Contains(said, "not done within --timeout 200ms") {
		t.Errorf("exit %d, %q, %s", code, out, said)
	}
}

func TestRenderScreenshotViaAManager(t *testing.T) {
	asked := make(chan string, 1)
	manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.URL.Path + " " + string(body)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"data":{"attributes":{"status":"ready","base64":"cGljdHVyZQ==","width":1,"height":1}}}`)
	}))
	defer manager.Close()
	code, out, said := runRender(t, "http://host.example/a", "--via", manager.URL, "--format", "png")
	if code != 0 || out != "picture" {
		t.Errorf("exit %d, %q, %s", code, out, said)
	}
	if got := <-asked; !strings.HasPrefix(got, "/prerender-screenshot ") || !strings.Contains(got, `"url":"http://host.example/a"`) || !strings.Contains(got, `"format":"png"`) {
		t.Errorf("asked %s", got)
	}
}

// A page may be megabytes: what is printed is what is sent.
func TestRenderViaAManagerAsksForWhatItPrints(t *testing.T) {
	for format, fields := range map[string]string{"html": `"fields":["html"]`, "text": `"fields":["body"]`, "json": ""} {
		asked := make(chan string, 1)
		manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked <- string(body)
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"data":{"attributes":{"status":"ready"}}}`)
		}))
		if code, _, said := runRender(t, "http://host.example/a", "--via", manager.URL, "--format", format); code != 0 {
			t.Errorf("%s: exit %d, %s", format, code, said)
		}
		if got := <-asked; fields == "" && strings.Contains(got, "fields") || !strings.Contains(got, fields) {
			t.Errorf("%s: asked %s, want %s", format, got, fields)
		}
		manager.Close()
	}
}
