package shell

import (
	"slices"
	"strings"
)

// AllowScripts returns a Content-Security-Policy value that lets the inline
// scripts with these hash sources run, and is otherwise what it was. A policy
// that allows all inline scripts is left alone: a hash in it would forbid the
// others.
func AllowScripts(policy string, hashes []string) string {
	policies := strings.Split(policy, ",")
	for i, p := range policies {
		policies[i] = allowIn(p, hashes)
	}
	return strings.Join(policies, ",")
}

func allowIn(policy string, hashes []string) string {
	directives := strings.Split(policy, ";")
	i := governing(directives)
	if i < 0 {
		return policy
	}
	fields := strings.Fields(directives[i])
	sources := fields[1:]
	inline := slices.ContainsFunc(sources, func(s string) bool { return strings.EqualFold(s, "'unsafe-inline'") })
	strict := slices.ContainsFunc(sources, func(s string) bool {
		s = strings.ToLower(s)
		return strings.HasPrefix(s, "'nonce-") || strings.HasPrefix(s, "'sha") || s == "'strict-dynamic'"
	})
	if inline && !strict {
		return policy
	}
	sources = slices.DeleteFunc(slices.Clone(sources), func(s string) bool { return strings.EqualFold(s, "'none'") })
	for _, hash := range hashes {
		if !slices.Contains(sources, hash) {
			sources = append(sources, hash)
		}
	}
	lead := directives[i][:len(directives[i])-len(strings.TrimLeft(directives[i], " \t\n\r\f"))]
	directives[i] = lead + fields[0] + " " + strings.Join(sources, " ")
	return strings.Join(directives, ";")
}

// governing is the index of the directive that rules inline scripts, -1 when
// the policy has none.
func governing(directives []string) int {
	for _, name := range []string{"script-src-elem", "script-src", "default-src"} {
		for i, d := range directives {
			if fields := strings.Fields(d); len(fields) > 0 && strings.EqualFold(fields[0], name) {
				return i
			}
		}
	}
	return -1
}

func isPolicy(t tag) bool {
	return t.name == "meta" && !t.close && strings.EqualFold(strings.TrimSpace(t.attr("http-equiv")), "content-security-policy")
}

// metaNonce is a nonce that the shell's own policy names: static, and so as
// good for our script as for the shell's.
func (c *composition) metaNonce() string {
	for _, t := range c.tags {
		if !isPolicy(t) {
			continue
		}
		directives := strings.Split(t.attr("content"), ";")
		i := governing(directives)
		if i < 0 {
			continue
		}
		for _, source := range strings.Fields(directives[i])[1:] {
			if nonce, ok := strings.CutPrefix(source, "'nonce-"); ok {
				return strings.TrimSuffix(nonce, "'")
			}
		}
	}
	return ""
}

// allowInMeta extends the shell's own policies: all of a document's policies
// must agree, so a header could not make up for them.
func (c *composition) allowInMeta(hashes []string) {
	for _, t := range c.tags {
		if !isPolicy(t) {
			continue
		}
		content := t.attr("content")
		allowed := AllowScripts(content, hashes)
		if allowed == content {
			continue
		}
		token := t.token
		token.Attr = slices.Clone(token.Attr)
		for i := range token.Attr {
			if token.Attr[i].Key == "content" {
				token.Attr[i].Val = allowed
				break
			}
		}
		c.edits = append(c.edits, edit{t.start, t.end, token.String()})
	}
}
