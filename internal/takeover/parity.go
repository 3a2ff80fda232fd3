package takeover

import (
	"fmt"
	"slices"
	"strings"
)

// differ is what before has and after does not, and the other way round; each
// in its order, and as often as it is missing. That something moved is no
// difference.
func differ(before, after []string) (lost, added []string) {
	return without(before, after), without(after, before)
}

func without(all, others []string) (rest []string) {
	count := map[string]int{}
	for _, other := range others {
		count[other]++
	}
	for _, one := range all {
		if count[one] > 0 {
			count[one]--
		} else {
			rest = append(rest, one)
		}
	}
	return rest
}

func unique(all []string) []string {
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

func lines(n int) string {
	if n == 1 {
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}

func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func were(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// maxQuote is how much of a line a message quotes, in bytes.
const maxQuote = 80

func short(text string) string { return clip(text, maxQuote) }

func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
