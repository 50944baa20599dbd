package broker

import (
	"errors"
	"fmt"
	"strings"
)

// Message is what travels through a broker.
type Message struct {
	// ID is the identity that consumers deduplicate by, also when the message is
	// published again. It must not be empty.
	ID string
	// DedupID is what the broker deduplicates by, if it does, within its window of
	// minutes. Empty means ID. A deliberate repetition needs another one, or the
	// broker would swallow it.
	DedupID string
	// Subject is where the message goes, "order.placed": tokens of printable
	// characters separated by dots. A driver maps it to what its broker has: a
	// subject, a topic, a routing key.
	Subject string
	// Key is what the message is about, "order/42". Messages of one key keep their
	// order. Empty means that there is no order to keep.
	Key string
	// Headers travel beside the payload. See the constants of this package for the
	// names that have a meaning.
	Headers map[string]string
	// Payload is opaque. It may be empty.
	Payload []byte
}

// Names of headers. The outbox writes those of the event, drivers carry ID, Key and
// Subject in the first three when their broker has no place for them.
const (
	HeaderID               = "message_id"
	HeaderKey              = "message_key"
	HeaderSubject          = "message_subject"
	HeaderEventType        = "event_type"
	HeaderEventVersion     = "event_version"
	HeaderAggregateType    = "aggregate_type"
	HeaderAggregateID      = "aggregate_id"
	HeaderAggregateVersion = "aggregate_version"
	HeaderTime             = "event_time" // RFC 3339, UTC, when the event was stored
)

// Dedup returns the id that the broker deduplicates by.
func (m Message) Dedup() string {
	if m.DedupID != "" {
		return m.DedupID
	}
	return m.ID
}

// Validate names what makes a message unfit for every broker.
func (m Message) Validate() error {
	var errs []error
	if m.ID == "" {
		errs = append(errs, errors.New("id: must not be empty"))
	}
	if !validSubject(m.Subject) {
		errs = append(errs, fmt.Errorf("subject: %q is not tokens of printable characters separated by dots", m.Subject))
	}
	return errors.Join(errs...)
}

// validSubject refuses what has a meaning in patterns of any broker.
func validSubject(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == '#' || r >= 0x7f }) {
			return false
		}
	}
	return true
}
