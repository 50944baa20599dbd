package config

import (
	"fmt"
	"io"
	"log/slog"
)

const mask = "******"

// Secret is a string that does not show itself: whatever prints, logs or encodes it gets a mask of
// fixed length, or nothing if it is empty. [Secret.Reveal] gives the text. Keep it in exported
// fields: fmt cannot ask an unexported field of a struct to format itself.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format writes the mask for every verb, also for those that fit no string.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		fmt.Fprintf(f, "%q", s.String())
		return
	}
	_, _ = io.WriteString(f, s.String())
}

// MarshalText gives the mask to JSON, YAML and zap.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue gives the mask to slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
