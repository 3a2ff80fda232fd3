package takeover

import (
	"regexp"
	"strings"
)

// reactErrors are those of React's production errors that are about hydration.
// https://react.dev/errors/418 and so on explain each.
var reactErrors = map[string]string{
	"418": "the server's HTML is not what the client rendered",
	"419": "the server could not finish a Suspense boundary; the client rendered it",
	"421": "a Suspense boundary was updated before it had hydrated",
	"422": "hydration failed in a Suspense boundary; the client rendered it anew",
	"423": "hydration failed; the client rendered the whole root anew",
	"425": "the server's text is not what the client rendered",
}

// angularErrors are Angular's, https://angular.dev/errors/NG0500 and so on.
var angularErrors = map[string]string{
	"NG0500": "a node is not the one that the server rendered",
	"NG0501": "a node is missing that the server rendered",
	"NG0502": "a node could not be found in the server's HTML",
	"NG0503": "a component projects nodes that the server did not",
	"NG0504": "a host element with ngSkipHydration is no component's",
	"NG0505": "the server did not add what hydration needs",
	"NG0506": "the application did not become stable in time",
	"NG0507": "the HTML was changed after the server rendered it",
}

var (
	reactCode    = regexp.MustCompile(`Minified React error #(\d+)`)
	angularCode  = regexp.MustCompile(`NG0?(50[0-7])\b`)
	reactWords   = regexp.MustCompile(`(?i)hydration failed because|error while hydrating|did not match\. Server|text content does not match server-rendered|expected server HTML to contain|hydrated but some attributes of the server rendered HTML`)
	vueWords     = regexp.MustCompile(`Hydration .*mismatch|Hydration completed but contains mismatches`)
	svelteWords  = regexp.MustCompile(`hydration_(mismatch|attribute_changed|html_changed)`)
	preactWords  = regexp.MustCompile(`(?i)expected a DOM node of type .* but found|hydration mismatch`)
	unknownWords = regexp.MustCompile(`(?i)hydrat\w* (error|failed|mismatch)`)
)

// hydration is what a framework's error says of hydration, in words; "" for
// another error.
func hydration(text string) string {
	if code := reactCode.FindStringSubmatch(text); code != nil {
		if why := reactErrors[code[1]]; why != "" {
			return "React #" + code[1] + ": " + why
		}
		return ""
	}
	if code := angularCode.FindStringSubmatch(text); code != nil {
		name := "NG0" + code[1]
		return "Angular " + name + ": " + angularErrors[name]
	}
	for _, framework := range []struct {
		name  string
		words *regexp.Regexp
	}{{"Vue", vueWords}, {"Svelte", svelteWords}, {"React", reactWords}, {"Preact", preactWords}} {
		if framework.words.MatchString(text) {
			return framework.name + ": " + firstLine(text)
		}
	}
	if unknownWords.MatchString(text) {
		return firstLine(text)
	}
	return ""
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}
