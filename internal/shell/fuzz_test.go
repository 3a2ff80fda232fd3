package shell

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func FuzzCompose(f *testing.F) {
	mount := `<head><title>a</title></head><body><div id=r></div><script src=a.js></script></body>`
	f.Add(reactShell, afterBoot(reactShell, "Loading", "<b>done</b>"))
	f.Add(`<body><div id=a></div><script>1</script>`, `<body><div id=a><script>2</script><p>x`)
	f.Add(`<svg><style><a title="</style><script>1</script>">`, `<body><math><mi//xlink:href="data:x,<script>alert(4)</script>">x`)
	f.Add("<head><title></title><script>a</script></head>\r\n<body>\x00<plaintext>", "<body><p>y<plaintext><script>z</script>")
	f.Add(`<head><meta http-equiv=content-security-policy content="script-src 'self'"></head><body><nav>n</nav><script>1</script></body>`,
		`<head><title>t</title><style>b{}</style><script type="application/ld+json">{"a":"</script>"}</script></head><body><nav>n</nav><main onclick=x()>m</main><script>1</script></body>`)
	f.Add(mount, `<body><div id=r>x<svg><style>&lt;/style>&lt;img src onerror=alert(1)></style></svg></div><script src=a.js></script></body>`)
	f.Add(mount, `<body><div id=r>x<noscript><p title="</noscript><img src onerror=alert(1)>"></noscript></div><script src=a.js></script></body>`)
	f.Fuzz(composes)
}

// FuzzComposeMarkup composes what parsers disagree about: each byte of the
// input is a piece of markup.
func FuzzComposeMarkup(f *testing.F) {
	shells := []string{
		`<head><title>a</title></head><body><div id=r></div><script src=a.js></script></body>`,
		`<body><nav>n</nav><form id=r><p>x</p></form><script>1</script></body>`,
		`<body><div id=r><svg><title>t</title></svg></div><table><td id=u></table><script>1</script></body>`,
	}
	pieces := []string{
		"x", " ", "<p>", "</p>", "<div>", "</div>", "<a>", "</a>", "<b a=1>", "</b>", "<form>", "</form>", "<table>", "</table>", "<tr>", "<td>", "<caption>",
		"<svg>", "</svg>", "<math>", "</math>", "<mtext>", "</mtext>", "<mi>", "<mglyph>", "<malignmark>", "<annotation-xml encoding=text/html>",
		"<foreignObject>", "<desc>", "<title>", "</title>", "<style>", "</style>", "<noscript>", "</noscript>", "<template>", "</template>",
		"<select>", "<option>", "</select>", "<textarea>", "</textarea>", "<iframe>", "</iframe>", "<xmp>", "</xmp>", "<plaintext>", "<br>", "</br>",
		"<!--", "-->", "<![CDATA[", "]]>", "<i title=\"", "\">", "<img src onerror=alert(1)>", "<script>alert(1)</script>", "&lt;script>", "&lt;/style>", "\r", "\x00",
		"<li id=r>", "<frameset>", "<head>", "<body onload=alert(1)>", "<h1>", "<h2>", "<button>", "<nobr>", "<ruby>", "<rtc>", "<font color=x>", "<applet>", "<marquee>",
	}
	f.Add([]byte{0, 2, 0, 3})
	f.Add([]byte{1, 10, 19, 21, 11, 10, 24, 31, 20, 55})
	f.Add([]byte{2, 19, 21, 12, 24, 31, 49, 32, 53, 50, 55, 54})
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 || len(input) > 100 {
			return
		}
		var capture strings.Builder
		for _, b := range input[1:] {
			capture.WriteString(pieces[int(b)%len(pieces)])
		}
		shell := shells[int(input[0])%len(shells)]
		composes(t, shell, strings.Replace(shell, "id=r>", "id=r>shown"+capture.String(), 1))
	})
}

func composes(t *testing.T, shell, capture string) {
	out, err := Compose([]byte(shell), capture, Options{})
	if err != nil {
		return
	}
	if again, err := Compose([]byte(shell), capture, Options{}); err != nil || !bytes.Equal(again.HTML, out.HTML) {
		t.Error("the same input gave another page")
	}
	givesTheShellBack(t, []byte(shell), out)
	page := string(out.HTML)
	bytesInOrder(t, shell, page)
	before, after := running(t, shell), running(t, page)
	if !slices.Equal(before.scripts, after.scripts) {
		t.Errorf("the scripts %q became %q in %q", before.scripts, after.scripts, page)
	}
	if !isSubsequence(after.attributes, before.attributes) {
		t.Errorf("of the attributes %q came %q in %q", before.attributes, after.attributes, page)
	}
	if after.ours != strings.Count(page, takeover) {
		t.Errorf("%d scripts of ours run, and not all of %q", after.ours, page)
	}
	// Each element of the shell may get a script of ours; text and attributes
	// of the capture are escaped.
	elements := strings.Count(shell, "<") + 1
	if most := len(shell)*6 + len(capture)*8 + elements*(len(takeover)+200); len(page) > most {
		t.Errorf("%d and %d bytes became %d", len(shell), len(capture), len(page))
	}
}

// bytesInOrder holds that what a page keeps of its shell is as it was and where
// it was: all before the first tag, and every tag that nothing may replace.
func bytesInOrder(t *testing.T, shell, page string) {
	t.Helper()
	rest := page
	for i, tag := range scan([]byte(shell)) {
		if i == 0 && !strings.HasPrefix(page, shell[:tag.start]) {
			t.Errorf("%q does not begin as %q", page, shell)
		}
		switch tag.name {
		case "html", "head", "body", "style", "base", "template":
		case "script":
			if tag.close || !executable(tag.token.Attr) {
				continue
			}
		default:
			continue
		}
		_, after, found := strings.Cut(rest, shell[tag.start:tag.end])
		if !found {
			t.Errorf("%q is not where it was in %q", shell[tag.start:tag.end], page)
		}
		rest = after
	}
}

// behaviour is what a document does by itself, as a browser parses it.
type behaviour struct {
	scripts    []string
	ours       int
	attributes []string
}

func running(t *testing.T, source string) (b behaviour) {
	t.Helper()
	document, err := html.Parse(strings.NewReader(source))
	if err != nil {
		t.Fatalf("%q cannot be parsed: %v", source, err)
	}
	for n := range document.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "script" && executable(n.Attr) {
			var text strings.Builder
			for child := range n.ChildNodes() {
				text.WriteString(child.Data)
			}
			if strings.HasPrefix(text.String(), takeover) {
				b.ours++
			} else {
				b.scripts = append(b.scripts, n.Namespace+" "+attrOf(n.Attr, "src")+" "+text.String())
			}
		}
		for _, a := range n.Attr {
			value := strings.ToLower(strings.Join(strings.Fields(a.Val), ""))
			if strings.HasPrefix(a.Key, "on") || a.Key == "srcdoc" || strings.HasPrefix(value, "javascript:") && a.Key != "content" {
				b.attributes = append(b.attributes, n.Data+" "+a.Key+"="+a.Val)
			}
		}
	}
	return b
}

func isSubsequence(part, whole []string) bool {
	for _, s := range part {
		i := slices.Index(whole, s)
		if i < 0 {
			return false
		}
		whole = whole[i+1:]
	}
	return true
}

func FuzzAllowScripts(f *testing.F) {
	for _, policy := range []string{
		"default-src 'none'; img-src *", "script-src 'self' 'unsafe-inline', SCRIPT-SRC-ELEM 'nonce-x'", " script-src", ";,;", "img-src *",
	} {
		f.Add(policy)
	}
	hashes := []string{"'sha256-a'", "'sha256-b'"}
	f.Fuzz(func(t *testing.T, policy string) {
		allowed := AllowScripts(policy, hashes)
		if again := AllowScripts(allowed, hashes); again != allowed {
			t.Errorf("%q became %q, and that %q", policy, allowed, again)
		}
		before, after := directives(policy), directives(allowed)
		if len(before) != len(after) {
			t.Fatalf("%q became %q", policy, allowed)
		}
		for i := range before {
			// Sources are only added, but for 'none', which allows no other.
			added := slices.DeleteFunc(slices.Clone(after[i]), func(s string) bool { return slices.Contains(hashes, s) })
			kept := slices.DeleteFunc(slices.Clone(before[i]), func(s string) bool {
				return slices.Contains(hashes, s) || len(added) < len(before[i]) && strings.EqualFold(s, "'none'")
			})
			if !slices.Equal(added, kept) {
				t.Errorf("%q became %q", policy, allowed)
			}
		}
	})
}

// directives are the words of each directive of each policy.
func directives(policies string) (all [][]string) {
	for policy := range strings.SplitSeq(policies, ",") {
		for directive := range strings.SplitSeq(policy, ";") {
			all = append(all, strings.Fields(directive))
		}
	}
	return all
}

func FuzzAssets(f *testing.F) {
	f.Add([]byte(reactShell), "http://h")
	f.Add([]byte(`<base href="/app/"><script src=../../x.js></script><link rel="a stylesheet" href="%2e%2e/%2e%2e/y.css">`), "https://h:1/base/")
	f.Add([]byte(`<script src="//h/\..\a.js"></script><script src="http:x"></script><script src=?></script><script src=" http://h/%00 ">`), "http://h")
	f.Fuzz(func(t *testing.T, src []byte, base string) {
		found := Assets(src, base)
		if !slices.IsSorted(found) || len(slices.Compact(slices.Clone(found))) != len(found) {
			t.Errorf("%q is not each once, and sorted", found)
		}
		for _, name := range found {
			if name == "" || path.IsAbs(name) || path.Clean("/"+name) != "/"+name {
				t.Errorf("%q is no path below a root", name)
			}
		}
		if n := len(scan(src)); len(found) > n || Scripts(src) > n {
			t.Errorf("%d assets, %d scripts of %d tags", len(found), Scripts(src), n)
		}
	})
}
