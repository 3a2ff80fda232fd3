package skew

import "testing"

func TestSaysKnowsTheWordsOfBundlersAndBrowsers(t *testing.T) {
	for text, want := range map[string]struct {
		url  string
		says bool
	}{
		"ChunkLoadError: Loading chunk 7 failed.":                               {"", true},
		"Error: Unable to preload CSS for /assets/a.css":                        {"", true},
		"TypeError: Failed to fetch dynamically imported module: http://h/a.js": {"http://h/a.js", true},
		"Importing a module script failed.":                                     {"", true},
		"TypeError: Failed to fetch":                                            {"", false},
		"":                                                                      {"", false},
	} {
		if url, says := Says(text); url != want.url || says != want.says {
			t.Errorf("%q: %q, %t", text, url, says)
		}
	}
}
