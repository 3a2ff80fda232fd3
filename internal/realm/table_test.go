package realm

import (
	"strings"
	"testing"

	"github.com/rewarm/rewarm/internal/fault"
)

func tableOf(t testing.TB, urls ...string) *Table {
	t.Helper()
	table := &Table{}
	for _, u := range urls {
		if err := table.Add(Realm{URL: u}); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

func TestTableFindsTheRealmThatARequestNames(t *testing.T) {
	table := tableOf(t, "https://A.example/", "http://b.example:8080", "https://c.example/a", "https://c.example/a/b", "https://d.example", "https://d.example/shop", "http://[::1]:81")
	for _, test := range []struct {
		host, path, realm, prefix string
		unknown                   bool
	}{
		{host: "a.example", path: "/", realm: "https://a.example"},
		{host: "A.EXAMPLE", path: "/x", realm: "https://a.example"},
		{host: "a.example:443", path: "/x", realm: "https://a.example"},
		{host: "a.example:80", path: "/x", realm: "https://a.example"},
		{host: "a.example:8080", path: "/x", unknown: true},
		{host: "b.example:8080", path: "/x", realm: "http://b.example:8080"},
		{host: "b.example", path: "/x", unknown: true},
		{host: "[::1]:81", path: "/x", realm: "http://[::1]:81"},
		{host: "c.example", path: "/a", realm: "https://c.example/a", prefix: "/a"},
		{host: "c.example", path: "/a/", realm: "https://c.example/a", prefix: "/a"},
		{host: "c.example", path: "/a/b/c", realm: "https://c.example/a/b", prefix: "/a/b"},
		{host: "c.example", path: "/a/bc", realm: "https://c.example/a", prefix: "/a"},
		{host: "c.example", path: "/ab"},
		{host: "c.example", path: "/"},
		{host: "c.example", path: "/%61/b"},
		{host: "d.example", path: "/shopping", realm: "https://d.example"},
		{host: "d.example", path: "/shop", realm: "https://d.example/shop", prefix: "/shop"},
		{host: "", path: "/", unknown: true},
		{host: "e.example", path: "/", unknown: true},
		{host: "a.example.", path: "/", unknown: true},
	} {
		found, prefix, known := table.find(test.host, test.path)
		realm := ""
		if found != noRealm {
			realm = table.Realms()[found].URL
		}
		if known == test.unknown || realm != test.realm || prefix != test.prefix {
			t.Errorf("%s%s: realm %q, prefix %q, known %t; want %+v", test.host, test.path, realm, prefix, known, test)
		}
	}
}

func TestTableOfOneRealmIsAskedForNoHost(t *testing.T) {
	for _, test := range []struct{ realm, path, prefix string }{
		{"https://a.example", "/x", ""},
		{"https://a.example/shop", "/shop/x", "/shop"},
		{"https://a.example/shop", "/x", ""}, // a proxy has cut the prefix off
	} {
		found, prefix, known := tableOf(t, test.realm).find("127.0.0.1:4201", test.path)
		if found != 0 || !known || prefix != test.prefix {
			t.Errorf("%+v: realm %d, prefix %q, known %t", test, found, prefix, known)
		}
	}
}

func TestTableRefusesWhatIsNoBaseURL(t *testing.T) {
	for _, test := range []struct{ url, says string }{
		{"", "no http or https URL"},
		{"a.example", "no http or https URL"},
		{"ftp://a.example", "no http or https URL"},
		{"https://a.example?x=1", "a query"},
		{"https://a.example?", "a query"},
		{"https://a.example#x", "fragment"},
		{"https://a.example#", "fragment"},
		{"https://u:p@a.example", "a user"},
		{"https://bücher.example", "xn--"},
		{"https://a.example.", "without a dot"},
		{"https://a.example/a//b", "plain segments"},
		{"https://a.example/a/../b", "plain segments"},
		{"https://a.example/a b", "plain segments"},
		{"https://a.example/caf%C3%A9", "plain segments"},
		{"https://a.example/_standby", "plain segments"},
		{"http://Known.example", "twice"},
		{"http://known.example:80/", "twice"},
	} {
		table := tableOf(t, "https://known.example", "https://other.example/a")
		err := table.Add(Realm{URL: test.url})
		if err == nil || !strings.Contains(err.Error(), test.says) || !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v; want %q, as wrong usage", test.url, err, test.says)
		}
		if len(table.Realms()) != 2 {
			t.Errorf("%q was added", test.url)
		}
	}
}

// FuzzTable holds a table's answers to what its realms say.
func FuzzTable(f *testing.F) {
	f.Add("https://a.example/shop", "http://a.example", "a.example", "/shop/x")
	f.Add("https://a.example/a", "https://a.example/a/b", "A.EXAMPLE:443", "/a/b")
	f.Add("http://[::1%25eth0]:80/~", "http://h:80", "h:80", "//")
	f.Fuzz(func(t *testing.T, one, two, host, path string) {
		table := &Table{}
		for _, u := range []string{one, two, "https://fixed.example/x"} {
			if err := table.Add(Realm{URL: u}); err != nil && !fault.Is(err, fault.Usage) {
				t.Fatalf("%q: %v", u, err)
			}
		}
		for _, r := range table.Realms() {
			if again := (&Table{}); again.Add(r) != nil || again.Realms()[0].URL != r.URL {
				t.Errorf("%q is not taken as it is spelled here", r.URL)
			}
		}
		found, prefix, known := table.find(host, path)
		if found != noRealm && (!known || !strings.HasPrefix(path, prefix) || prefix != "" && !strings.HasSuffix(table.Realms()[found].URL, prefix)) {
			t.Errorf("%q %q: realm %d, prefix %q, known %t", host, path, found, prefix, known)
		}
		if found != noRealm && len(table.Realms()) > 1 && !strings.Contains(table.Realms()[found].URL, strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(host), ":443"), ":80")) {
			t.Errorf("host %q has realm %s", host, table.Realms()[found].URL)
		}
	})
}
