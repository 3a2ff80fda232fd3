package config

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/rewarm/rewarm/internal/realm"
	"github.com/rewarm/rewarm/internal/worker"
)

// Realm is one of the realms: what the realm server does for it, and what the
// worker does. Its keys are named like the flags, which say what is left open.
type Realm struct {
	realm.Realm
	Routes []string // paths that the worker indexes first, beside "/"; nil is as the flags say
	Rate   float64  // pages a second of a worker, at the most; 0 is as the flags say
}

// maxWait is longer than anybody looks at an empty window.
const maxWait = time.Minute

// Table is the realms as a realm server takes them.
func (f *File) Table() *realm.Table {
	t := &realm.Table{}
	for _, r := range f.Realms {
		_ = t.Add(r.Realm) // done before, when it was read
	}
	return t
}

// Sites are the realms as a worker takes them, by URL.
func (f *File) Sites() map[string]worker.Site {
	sites := map[string]worker.Site{}
	for i, r := range f.Table().Realms() { // their URLs are in their one spelling
		sites[r.URL] = worker.Site{Routes: f.Realms[i].Routes, Rate: f.Realms[i].Rate, QueryAllow: r.Query, MaxAge: r.MaxAge}
	}
	return sites
}

func (f *File) readRealms(list *yaml.Node) error {
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		return wrong(list, "realms is to have a list: - url: https://example.com")
	}
	table := &realm.Table{}
	for _, entry := range list.Content {
		r, url, err := readRealm(entry)
		if err != nil {
			return err
		}
		if err := table.Add(r.Realm); err != nil {
			return wrong(url, "%s", err)
		}
		f.Realms = append(f.Realms, r)
	}
	return nil
}

// readRealm reads one realm, and returns where its URL is.
func readRealm(n *yaml.Node) (r Realm, url *yaml.Node, err error) {
	err = eachKey(n, "a realm", func(key, value *yaml.Node) (err error) {
		switch key.Value {
		case "url":
			url = value
			r.URL, err = text(key, value)
		case "max-age":
			r.MaxAge, err = duration(key, value, math.MaxInt64)
		case "query":
			r.Query, err = texts(key, value)
		case "on-miss":
			var said string
			said, err = text(key, value)
			if r.OnMiss = realm.Miss(said); err == nil && r.OnMiss != realm.MissShell && r.OnMiss != realm.MissWait {
				err = wrong(value, "on-miss: %.50q is neither %s nor %s", said, realm.MissShell, realm.MissWait)
			}
		case "wait-at-most":
			r.WaitAtMost, err = duration(key, value, maxWait)
		case "page-header":
			if r.PageHeaders, err = texts(key, value); err == nil {
				if checked, bad := realm.CheckPageHeaders(r.PageHeaders); bad != nil {
					err = wrong(value, "%s", strings.TrimPrefix(bad.Error(), "--"))
				} else if checked != nil {
					r.PageHeaders = checked
				}
			}
		case "route":
			if r.Routes, err = texts(key, value); err == nil && slices.ContainsFunc(r.Routes, func(p string) bool { return !strings.HasPrefix(p, "/") }) {
				err = wrong(value, "route: each is a path below the realm, such as /products")
			}
		case "rate":
			var said string
			if said, err = text(key, value); err == nil {
				if r.Rate, err = strconv.ParseFloat(said, 64); err != nil || !(r.Rate > 0) || math.IsInf(r.Rate, 0) {
					err = wrong(value, "rate: %.50q is no number of pages a second above 0", said)
				}
			}
		default:
			err = wrong(key, "unknown key %.100q; a realm has url, max-age, query, on-miss, wait-at-most, page-header, route, rate", key.Value)
		}
		return err
	})
	if err == nil && url == nil {
		err = wrong(n, "a realm without a url: add one, such as url: https://example.com")
	}
	return r, url, err
}

func text(key, n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", wrong(key, "%s is to have one value", key.Value)
	}
	return n.Value, nil
}

// texts is a list, or one value; not nil, for an empty list says something too.
func texts(key, n *yaml.Node) ([]string, error) {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return []string{n.Value}, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, wrong(key, "%s is to have a list: [one, two], or [] for none", key.Value)
	}
	list := make([]string, 0, len(n.Content))
	for _, entry := range n.Content {
		said, err := text(key, entry)
		if err != nil {
			return nil, err
		}
		list = append(list, said)
	}
	return list, nil
}

func duration(key, n *yaml.Node, most time.Duration) (time.Duration, error) {
	said, err := text(key, n)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(said)
	switch {
	case err != nil:
		return 0, wrong(n, "%s: %.50q is no time such as 90s, 10m or 12h", key.Value, said)
	case d <= 0 || d > most:
		return 0, wrong(n, "%s: %s is not above 0 and at most %s", key.Value, d, most)
	}
	return d, nil
}
