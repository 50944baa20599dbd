package grpcapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"

	"github.com/google/uuid"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// A page token is the version of its form, the id after which the page begins, and a hash of the
// filter, so that one cannot be used with another filter.
const (
	tokenVersion = 1
	tokenLength  = 1 + 16 + 8
)

func encodeToken(before string, f usecase.Filter) string {
	if before == "" {
		return ""
	}
	id := uuid.MustParse(before)
	token := append([]byte{tokenVersion}, id[:]...)
	return base64.RawURLEncoding.EncodeToString(append(token, filterHash(f)...))
}

func decodeToken(token string, f usecase.Filter) (before string, err error) {
	if token == "" {
		return "", nil
	}
	// The decoder skips line breaks, even a strict one: without them the text has one length.
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenLength) {
		return "", badToken("is not a token of this service")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != tokenLength || b[0] != tokenVersion {
		return "", badToken("is not a token of this service")
	}
	if !bytes.Equal(b[17:], filterHash(f)) {
		return "", badToken("belongs to a request with another status or customer")
	}
	return uuid.UUID(b[1:17]).String(), nil
}

func badToken(what string) error {
	return fault.Invalid(fault.Violation{Field: "page_token", Description: what})
}

// filterHash does not cover the owner: an id alone shows nobody anything.
func filterHash(f usecase.Filter) []byte {
	sum := sha256.Sum256([]byte(string(f.Status) + "\x00" + f.CustomerID))
	return sum[:8]
}
