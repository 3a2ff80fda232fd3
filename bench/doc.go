// Package bench measures Rewarm beside its peers, on one machine and in one
// run, and holds that its memory stays flat. It has no code of its own: its
// benchmark is run by `make bench`, and what it found is in docs/performance.md.
package bench
