package routing

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rewarm/rewarm/internal/words"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const key = "realm:https://x.example"

func idle(n int) map[string]Vacancy { return map[string]Vacancy{key: {Idle: true, TabCount: n}} }
func busy(pending ...int) map[string]Vacancy {
	v := Vacancy{TabCount: 1}
	if len(pending) > 0 {
		v.MaxPendingPriority = &pending[0]
	}
	return map[string]Vacancy{key: v}
}

func server(url string, change ...func(*Server)) Server {
	s := Server{URL: url, Capacity: 4}
	for _, f := range change {
		f(&s)
	}
	return s
}

func with(v map[string]Vacancy) func(*Server) { return func(s *Server) { s.Vacancy = v } }
func warmed(keys ...string) func(*Server)     { return func(s *Server) { s.Warmed = keys } }
func inFlight(k string, n int) func(*Server) {
	return func(s *Server) { s.InFlight = map[string]int{k: n} }
}
func on(tokens ...words.Token) func(*Server) {
	return func(s *Server) {
		s.Pages = map[words.Token]int{}
		for _, t := range tokens {
			s.Pages[t] = 1
		}
	}
}
func tried(urls ...string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, u := range urls {
		m[u] = struct{}{}
	}
	return m
}

func TestOrder(t *testing.T) {
	full := func(s *Server) { s.Capacity, s.Warmed = 1, []string{"realm:other"} }
	for name, c := range map[string]struct {
		servers []Server
		request Request
		want    string
	}{
		"warm and idle before cold":        {[]Server{server("a"), server("b", with(idle(1)))}, Request{}, "b"},
		"cold before warm and busy":        {[]Server{server("a", with(busy())), server("b")}, Request{}, "b"},
		"warm and busy before cold, full":  {[]Server{server("a", full), server("b", with(busy()))}, Request{}, "b"},
		"warmed without vacancy is idle":   {[]Server{server("a"), server("b", warmed(key))}, Request{}, "b"},
		"in flight makes the idle busy":    {[]Server{server("a", with(idle(1)), inFlight(key, 1)), server("b")}, Request{}, "b"},
		"a second idle page is idle still": {[]Server{server("a", with(idle(2)), inFlight(key, 1)), server("b")}, Request{}, "a"},
		"its priority beats the queue":     {[]Server{server("a", with(busy(5))), server("b", with(busy(2)))}, Request{Priority: 3}, "b"},
		"equal priority beats nothing":     {[]Server{server("a", with(busy(3))), server("b", with(busy()))}, Request{Priority: 3}, "b"},
		"fewer active affinities":          {[]Server{server("a", warmed("x", "y")), server("b", warmed("z"))}, Request{}, "b"},
		"in flight counts as active":       {[]Server{server("a", inFlight("x", 1)), server("b")}, Request{}, "b"},
		"a tried one never":                {[]Server{server("a", with(idle(1))), server("b", full)}, Request{Tried: tried("a")}, "b"},
		"a pin needs its pages":            {[]Server{server("a", with(idle(1)), on("old")), server("b", on("old", "new"))}, Request{Pin: "new"}, "b"},
		"before the canary no release":     {[]Server{server("a", with(idle(1)), on("old")), server("b", on("new"))}, Request{}, "a"},
		"after the canary its release":     {[]Server{server("a", with(idle(1)), on("old")), server("b", on("new"))}, Request{Preferred: "new"}, "b"},
		"unless it has its hands full":     {[]Server{server("a", with(idle(1)), on("old")), server("b", on("new"), inFlight("x", 4))}, Request{Preferred: "new"}, "a"},
		"nobody draining":                  {[]Server{server("a", with(idle(1)), func(s *Server) { s.Draining = true }), server("b", full)}, Request{}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			c.request.Key = key
			got, ok := NewTable(1).Choose(t0, c.servers, c.request)
			if !ok || got.URL != c.want {
				t.Errorf("got %v %v, want %s", got, ok, c.want)
			}
		})
	}
}

func TestNobodyIsLeft(t *testing.T) {
	for name, r := range map[string]Request{
		"tried": {Key: key, Tried: tried("a")}, "pinned elsewhere": {Key: key, Pin: "new"},
	} {
		if got, ok := NewTable(1).Choose(t0, []Server{server("a", on("old"))}, r); ok {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAssignment(t *testing.T) {
	table := NewTable(1)
	servers := []Server{server("a"), server("b"), server("c")}
	first, _ := table.Choose(t0, servers, Request{Key: key})
	for i := range 5 {
		if again, _ := table.Choose(t0.Add(time.Duration(i)), servers, Request{Key: key}); again.URL != first.URL {
			t.Fatalf("the affinity moved from %s to %s", first.URL, again.URL)
		}
	}
	second, _ := table.Choose(t0, servers, Request{Key: key, Tried: tried(first.URL)})
	if second.URL == first.URL || len(table.Servers(key)) != 1 || table.Servers(key)[0] != second.URL {
		t.Errorf("multiplex 1 keeps %v after %v", table.Servers(key), second)
	}
	two := NewTable(2)
	two.Choose(t0, servers, Request{Key: key})
	two.Choose(t0, servers, Request{Key: key, Tried: tried(first.URL)})
	if len(two.Servers(key)) != 2 {
		t.Errorf("multiplex 2 keeps %v", two.Servers(key))
	}
}

func TestLongestUnassigned(t *testing.T) {
	table := NewTable(1)
	servers := []Server{server("a"), server("b")}
	one, _ := table.Choose(t0, servers, Request{Key: "realm:1"})
	two, _ := table.Choose(t0.Add(1), servers, Request{Key: "realm:2"})
	three, _ := table.Choose(t0.Add(2), servers, Request{Key: "realm:3"})
	if one.URL == two.URL || three.URL != one.URL {
		t.Errorf("got %v %v %v", one, two, three)
	}
}

func TestPressureTakesTheLeastRecentlyUsed(t *testing.T) {
	table := NewTable(1)
	one := func(s *Server) { s.Capacity = 1 }
	servers := []Server{server("a", one), server("b", one)}
	old, _ := table.Choose(t0, servers, Request{Key: "realm:old"})
	recent, _ := table.Choose(t0.Add(1), servers, Request{Key: "realm:recent"})
	if got, ok := table.Choose(t0.Add(2), servers, Request{Key: key, Tried: tried(old.URL)}); !ok || got.URL != recent.URL {
		t.Errorf("the server already tried was given: %v", got)
	}
	table.Reset()
	table.Choose(t0, servers, Request{Key: "realm:old", Tried: tried("b")})
	table.Choose(t0.Add(1), servers, Request{Key: "realm:recent", Tried: tried("a")})
	got, _ := table.Choose(t0.Add(2), servers, Request{Key: key})
	if got != (Choice{URL: "a", Evicts: "realm:old"}) || len(table.Servers("realm:old")) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestHeardEndsAssignmentsButNotInFlight(t *testing.T) {
	table := NewTable(1)
	table.Choose(t0, []Server{server("a")}, Request{Key: key})
	table.Heard("a", nil, nil)
	if len(table.Servers(key)) != 1 {
		t.Error("a heartbeat that does not say erased an assignment")
	}
	table.Heard("a", []string{}, map[string]int{key: 1})
	if len(table.Servers(key)) != 1 {
		t.Error("an assignment in flight was erased")
	}
	table.Heard("a", []string{"realm:other"}, nil)
	if len(table.Servers(key)) != 0 {
		t.Error("an affinity that the server dropped is still assigned")
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		multiplex := rapid.IntRange(1, 3).Draw(t, "multiplex")
		mine, other := NewTable(multiplex), NewTable(multiplex)
		keys := []string{"realm:1", "realm:2", "user:3", "realm:4", "realm:5"}
		tokens := []words.Token{"old", "new"}
		var servers []Server
		for i := range rapid.IntRange(0, 6).Draw(t, "servers") {
			servers = append(servers, Server{
				URL:      fmt.Sprintf("http://s%d", i),
				Capacity: rapid.IntRange(1, 3).Draw(t, "capacity"),
				Draining: rapid.Bool().Draw(t, "draining"),
				Warmed:   rapid.SliceOfN(rapid.SampledFrom(keys), 0, 3).Draw(t, "warmed"),
				Pages:    map[words.Token]int{rapid.SampledFrom(tokens).Draw(t, "token"): 1},
			})
		}
		reversed := make([]Server, len(servers))
		for i, s := range servers {
			reversed[len(servers)-1-i] = s
		}
		for step := range 20 {
			r := Request{
				Key:      rapid.SampledFrom(keys).Draw(t, "key"),
				Priority: rapid.IntRange(0, 3).Draw(t, "priority"),
				Pin:      rapid.SampledFrom([]words.Token{"", "old", "new"}).Draw(t, "pin"),
				Tried:    map[string]struct{}{},
			}
			now := t0.Add(time.Duration(step))
			for {
				a, ok := mine.Choose(now, servers, r)
				b, okToo := other.Choose(now, reversed, r)
				if a != b || ok != okToo {
					t.Fatalf("two managers with one history disagree: %v, %v", a, b)
				}
				if !ok {
					break
				}
				if _, again := r.Tried[a.URL]; again {
					t.Fatalf("%s was tried already", a.URL)
				}
				for _, s := range servers {
					if s.URL == a.URL && (s.Draining || r.Pin != "" && s.Pages[r.Pin] == 0) {
						t.Fatalf("%+v may not be given %+v", s, r)
					}
				}
				if len(mine.Servers(r.Key)) > multiplex {
					t.Fatalf("%s has %v", r.Key, mine.Servers(r.Key))
				}
				r.Tried[a.URL] = struct{}{}
			}
			for _, s := range servers {
				if _, ok := r.Tried[s.URL]; !ok && !s.Draining && (r.Pin == "" || s.Pages[r.Pin] > 0) {
					t.Fatalf("%s was never offered", s.URL)
				}
			}
		}
	})
}
