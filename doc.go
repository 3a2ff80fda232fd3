// Package rewarm is the root of a prerender fleet that is never a deploy
// behind. It holds no code: begin with internal/words, whose comments explain
// the system in the order to read them, then climb the floors that
// floors_test.go lists.
package rewarm
