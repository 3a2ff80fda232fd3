package ledger

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/rewarm/rewarm/internal/wire"
	"github.com/rewarm/rewarm/internal/words"
)

// Keys may hold letters, digits, dash, underscore, slash, equal sign and dot,
// and a dot parts them: what comes from outside is encoded.
var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// digest is the key of a text of any length and content.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return encoding.EncodeToString(sum[:])
}

// normal is the one spelling of a realm or a server URL.
func normal(u string) string {
	if n, ok := wire.NormalizeURL(u); ok {
		return n
	}
	return u
}

// realmID is short, for it is a part of every snapshot's key; the value names
// the realm in full and is compared on reading.
func realmID(realm string) string { return digest(normal(realm))[:16] }

// tokenKey is the token itself where it can be (an md5 always can), else its
// encoding behind a sign that the first form never has.
func tokenKey(t words.Token) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_'
	}
	if t != "" && strings.IndexFunc(string(t), func(r rune) bool { return !plain(r) }) < 0 {
		return string(t)
	}
	return "=" + encoding.EncodeToString([]byte(t))
}

func snapshotKey(realm string, token words.Token, url string) string {
	return realmID(realm) + "." + tokenKey(token) + "." + digest(url)
}
