package wire

import "strings"

// Private reports whether the headers that a page asks for say that it is not for everyone: it is then
// not kept.
func Private(said map[string]string) bool {
	for name, value := range said {
		if !strings.EqualFold(strings.TrimSpace(name), "Cache-Control") {
			continue
		}
		for directive := range strings.SplitSeq(strings.ToLower(value), ",") {
			directive, _, _ = strings.Cut(directive, "=") // private="Set-Cookie"
			if directive = strings.TrimSpace(directive); directive == "private" || directive == "no-store" {
				return true
			}
		}
	}
	return false
}
