package command

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxCell is how much of a text a table shows; JSON has it all.
const maxCell = 100

// Cell makes a text fit into a table: on one line, of limited length, without what a
// terminal would obey.
func Cell(text string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "�"))
	if runes := []rune(clean); len(runes) > maxCell {
		return string(runes[:maxCell-1]) + "…"
	}
	return clean
}

// Printable tells whether the text can be shown as it is: UTF-8, and nothing that a
// terminal would obey but tabs and line breaks.
func Printable(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	for _, r := range string(text) {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return false
		}
	}
	return true
}

// Text returns a payload that is one, for JSON, where it stands beside the bytes.
func Text(payload []byte) *string {
	if !Printable(payload) {
		return nil
	}
	text := string(payload)
	return &text
}

// Payload returns the text of a payload, or a dump of its bytes when it is none.
func Payload(payload []byte) string {
	if Printable(payload) {
		return strings.TrimSuffix(string(payload), "\n")
	}
	return strings.TrimSuffix(hex.Dump(payload), "\n")
}

// Age returns a duration as people say it, with two units at most.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + Age(-d)
	case d == 0:
		return "0 s"
	case d < time.Second:
		return strconv.FormatInt(max(d.Milliseconds(), 1), 10) + " ms"
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d m %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%d h %d m", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
	}
}

// Time returns a time for a table, in the zone of the machine. Nil is never.
func Time(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return at.Local().Format(time.DateTime)
}

// Bytes returns a size as people say it.
func Bytes(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	size, units := float64(n), "kMGTP"
	for i := range units {
		if size /= 1000; size < 999.95 || i == len(units)-1 {
			return fmt.Sprintf("%.1f %cB", size, units[i])
		}
	}
	return ""
}

// Count returns a number with its noun: 1 event, 2 events.
func Count(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(n, 10) + " " + noun
}
