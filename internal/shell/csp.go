package shell

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
)

// AllowScripts returns a Content-Security-Policy value that lets the inline
// scripts with these hash sources run, and is otherwise what it was. A policy
// that allows all inline scripts is left alone: a hash in it would forbid the
// others.
func AllowScripts(policy string, hashes []string) string {
	return inline{rules: scriptRules[:], hashes: hashes}.allow(policy)
}

// The directives that rule inline elements, the first that a policy has.
var (
	scriptRules = [...]string{"script-src-elem", "script-src", "default-src"}
	styleRules  = [...]string{"style-src-elem", "style-src", "default-src"}
)

// inline are the inline elements of a kind that a composition puts in.
type inline struct {
	rules  []string
	nonce  string   // on each of them; "" for none
	hashes []string // the sources that name them without a nonce
}

func hashSource(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (in *inline) add(text string) {
	if source := hashSource(text); !slices.Contains(in.hashes, source) {
		in.hashes = append(in.hashes, source)
	}
}

// allow is a header's or meta element's value, which may hold several policies,
// with all of them letting the elements in.
func (in inline) allow(value string) string {
	policies := strings.Split(value, ",")
	for i, p := range policies {
		policies[i] = in.allowIn(p)
	}
	return strings.Join(policies, ",")
}

func (in inline) allowIn(policy string) string {
	directives := strings.Split(policy, ";")
	i := in.governing(directives)
	if i < 0 || len(in.hashes) == 0 {
		return policy
	}
	fields := strings.Fields(directives[i])
	sources := fields[1:]
	if in.nonce != "" && slices.Contains(sources, "'nonce-"+in.nonce+"'") {
		return policy
	}
	all := slices.ContainsFunc(sources, func(s string) bool { return strings.EqualFold(s, "'unsafe-inline'") })
	strict := slices.ContainsFunc(sources, func(s string) bool {
		s = strings.ToLower(s)
		return strings.HasPrefix(s, "'nonce-") || strings.HasPrefix(s, "'sha") || s == "'strict-dynamic'"
	})
	if all && !strict {
		return policy
	}
	sources = slices.DeleteFunc(slices.Clone(sources), func(s string) bool { return strings.EqualFold(s, "'none'") })
	for _, hash := range in.hashes {
		if !slices.Contains(sources, hash) {
			sources = append(sources, hash)
		}
	}
	lead := directives[i][:len(directives[i])-len(strings.TrimLeft(directives[i], " \t\n\r\f"))]
	directives[i] = lead + fields[0] + " " + strings.Join(sources, " ")
	return strings.Join(directives, ";")
}

// governing is the index of the directive that rules the elements, -1 when the
// policy has none.
func (in inline) governing(directives []string) int {
	for _, name := range in.rules {
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

// nonceIn is a nonce that one of the shell's own policies names: static, and so
// as good for our elements as for the shell's. Where another policy does not
// name it, the elements' hashes are added.
func (in inline) nonceIn(tags []tag) string {
	for _, t := range tags {
		if !isPolicy(t) {
			continue
		}
		for policy := range strings.SplitSeq(t.attr("content"), ",") {
			directives := strings.Split(policy, ";")
			i := in.governing(directives)
			if i < 0 {
				continue
			}
			for _, source := range strings.Fields(directives[i])[1:] {
				if nonce, ok := strings.CutPrefix(source, "'nonce-"); ok {
					return strings.TrimSuffix(nonce, "'")
				}
			}
		}
	}
	return ""
}

// allowInMeta extends the shell's own policies: all of a document's policies
// must agree, so a header could not make up for them.
func (c *composition) allowInMeta() {
	for _, t := range c.tags {
		if !isPolicy(t) {
			continue
		}
		content := t.attr("content")
		allowed := c.style.allow(c.script.allow(content))
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
