// Package coding is HTTP's content codings: which of them a caller takes, and
// bodies written in one. It is pure: what it makes is kept by who asked.
package coding

import (
	"strconv"
	"strings"
)

// Coding is a content coding. The zero value is [Identity].
type Coding uint8

// The codings we write; of those that a caller likes equally, the first after
// Identity is taken. zstd is read the fastest, and as small as brotli to within
// a few per cent on pages.
const (
	Identity Coding = iota
	Zstd
	Brotli
	Gzip

	Count = iota // how many there are
)

// String is the coding as Content-Encoding names it.
func (c Coding) String() string {
	return [Count]string{"identity", "zstd", "br", "gzip"}[c]
}

// Suffix is what tells the ETag of a body in this coding from that of the body
// itself: other bytes need another strong ETag.
func (c Coding) Suffix() string {
	if c == Identity {
		return ""
	}
	return "-" + c.String()
}

const (
	unsaid = -1
	// maxAccept is the longest list that is read, in bytes. Browsers send thirty.
	maxAccept = 4 << 10
)

// Accepted is the coding to answer with, given the values of Accept-Encoding
// (RFC 9110, 12.5.3). Who refuses all of ours gets Identity, even who refuses
// that too: an answer that may be read is worth more than a 406.
func Accepted(values []string) Coding {
	weights := [Count]int{unsaid, unsaid, unsaid, unsaid}
	others := unsaid
	for _, value := range values {
		if len(value) > maxAccept {
			return Identity
		}
		for item := range strings.SplitSeq(value, ",") {
			name, parameters, _ := strings.Cut(item, ";")
			weight := weightOf(parameters)
			switch name = strings.TrimSpace(name); {
			case name == "*":
				others = weight
			case strings.EqualFold(name, "x-gzip"):
				weights[Gzip] = weight
			default:
				for c := range Coding(Count) {
					if strings.EqualFold(name, c.String()) {
						weights[c] = weight
					}
				}
			}
		}
	}
	best := Identity
	if weights[Identity] == unsaid {
		weights[Identity] = 0 // always fine, never preferred
	}
	for c := Zstd; c < Count; c++ {
		if weights[c] == unsaid {
			weights[c] = others
		}
		if weights[c] > weights[best] || best == Identity && weights[c] > 0 && weights[c] == weights[best] {
			best = c
		}
	}
	return best
}

// weightOf reads ";q=0.5" in thousandths. What is malformed counts as a refusal.
func weightOf(parameters string) int {
	if strings.TrimSpace(parameters) == "" {
		return 1000
	}
	name, value, _ := strings.Cut(parameters, "=")
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !strings.EqualFold(strings.TrimSpace(name), "q") || !(q >= 0 && q <= 1) {
		return 0
	}
	return int(q * 1000)
}
