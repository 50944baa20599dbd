package inbox

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slipwayhq/slipway/platform/broker"
)

// Longer ids and keys do not fit into an index.
const (
	maxID    = 512
	maxKey   = 1024
	maxError = 4096
)

// letter is a message as the tables take it.
type letter struct {
	broker.Message
	// id is what it is known by: a message without a usable one is known by its
	// content.
	id string
	// version is 0 where order is not kept.
	version int64
	headers string
	// malformed says what keeps the message from being handled.
	malformed error
}

func (c Config) letter(m broker.Message) letter {
	l := letter{Message: m, id: m.ID}
	text, _ := json.Marshal(m.Headers) // strings always marshal
	l.headers = string(text)
	errs := []error{checkText("id", m.ID, maxID)}
	if errs[0] != nil {
		l.id = contentID(m)
	}
	if c.Mode == ByVersion {
		var err error
		l.version, err = strconv.ParseInt(m.Headers[broker.HeaderAggregateVersion], 10, 64)
		if err != nil || l.version < 1 {
			errs = append(errs, fmt.Errorf("%s: %q is not a positive number", broker.HeaderAggregateVersion,
				m.Headers[broker.HeaderAggregateVersion]))
		}
		errs = append(errs, checkText("key", m.Key, maxKey))
	}
	if l.malformed = errors.Join(errs...); l.malformed != nil {
		l.version = 0
	}
	return l
}

func checkText(name, value string, longest int) error {
	switch {
	case value == "":
		return fmt.Errorf("%s: must not be empty", name)
	case len(value) > longest:
		return fmt.Errorf("%s: longer than %d bytes", name, longest)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return fmt.Errorf("%s: must be UTF-8 without zero bytes", name)
	}
	return nil
}

// contentID is the same whenever the same message comes.
func contentID(m broker.Message) string {
	h := sha256.New()
	add := func(s string) { fmt.Fprintf(h, "%d:%s,", len(s), s) }
	add(m.ID)
	add(m.Subject)
	add(m.Key)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		add(name)
		add(m.Headers[name])
	}
	add(string(m.Payload))
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// storable makes any text one that PostgreSQL takes, of bounded length.
func storable(s string, longest int) string {
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) > longest {
		s = s[:longest]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// payload is never NULL.
func (l letter) payload() []byte {
	if l.Payload == nil {
		return []byte{}
	}
	return l.Payload
}

// storedAt is when the event was stored by its producer.
func (l letter) storedAt() (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, l.Headers[broker.HeaderTime])
	return at, err == nil
}

// unstored makes a message of what a table has.
func unstored(m broker.Message, headers string) (broker.Message, error) {
	if err := json.Unmarshal([]byte(headers), &m.Headers); err != nil {
		return m, fmt.Errorf("read headers of stored message: %w", err)
	}
	return m, nil
}
