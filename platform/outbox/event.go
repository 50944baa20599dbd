package outbox

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Event is something that has happened to an aggregate.
type Event struct {
	// ID is the event's identity for consumers, who see an event more than once.
	// Zero draws a UUIDv7.
	ID uuid.UUID
	// AggregateType and AggregateID name what it happened to, "order" and "42".
	AggregateType, AggregateID string
	// AggregateVersion is the aggregate's version after the event, 0 when it has
	// none.
	AggregateVersion int64
	// Type is what happened, "order.placed".
	Type string
	// Version is that of the payload's schema, from 1.
	Version int
	// Payload is opaque here. It may be empty.
	Payload []byte
	// Headers travel beside the payload. Add puts trace context and correlation id
	// into those that are not set.
	Headers map[string]string
}

// ErrInvalid is in the error of Add for events that cannot be stored.
var ErrInvalid = errors.New("invalid event")

// validate names every bad field.
func (e Event) validate() error {
	errs := []error{
		checkName("aggregate type", e.AggregateType),
		checkName("aggregate id", e.AggregateID),
		checkName("type", e.Type),
	}
	if e.AggregateVersion < 0 {
		errs = append(errs, fmt.Errorf("aggregate version: %d is negative", e.AggregateVersion))
	}
	if e.Version < 1 || e.Version > 1<<31-1 {
		errs = append(errs, fmt.Errorf("version: %d is not between 1 and 2147483647", e.Version))
	}
	for key, value := range e.Headers {
		errs = append(errs, checkName("header name", key), checkText("header "+key, value))
	}
	return errors.Join(errs...)
}

func checkName(field, value string) error {
	if value == "" {
		return fmt.Errorf("%s: must not be empty", field)
	}
	return checkText(field, value)
}

// checkText refuses what PostgreSQL cannot store as text.
func checkText(field, value string) error {
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return fmt.Errorf("%s: must be UTF-8 without zero bytes", field)
	}
	return nil
}

// Lane spreads aggregates over the lanes 0 to 32767, the same for all time: with
// h the 64 bit FNV-1a hash of type, a zero byte and id, it is the lowest 15 bits
// of h>>15 XOR h. It is stored beside each event, so it must never change.
func Lane(aggregateType, aggregateID string) int16 {
	const (
		offset = 14695981039346656037
		prime  = 1099511628211
	)
	h := uint64(offset)
	for _, s := range [3]string{aggregateType, "\x00", aggregateID} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
	}
	return int16((h>>15 ^ h) & 0x7fff)
}
