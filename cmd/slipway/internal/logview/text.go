package logview

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// style colours a part of a line, by its role.
type style func(role, text string) string

func plain(_, text string) string { return text }

// ANSI colours by role; levels are roles too.
var palette = map[string]string{
	"time": "2", "key": "2", "trace": "2", "DEBUG": "2", "INFO": "32", "WARN": "33",
	"ERROR": "31", "DPANIC": "31", "PANIC": "31", "FATAL": "31",
}

// services get these in turn, by a hash of their name.
var serviceColours = []string{"36", "35", "34", "96", "95", "94"}

func coloured(role, text string) string {
	code, ok := palette[role]
	if role == "service" {
		sum := 0
		for _, c := range text {
			sum += int(c)
		}
		code, ok = serviceColours[sum%len(serviceColours)], true
	}
	if !ok {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// clock is how a line's time is shown, in local time.
const clock = "15:04:05.000"

// prefix puts the service's name, in a column, before the text.
func (v *View) prefix(at, service string, text []byte) string {
	pad := strings.Repeat(" ", max(0, v.width-len(service)))
	return v.style("time", fmt.Sprintf("%-*s", len(clock), at)) + " " + v.style("service", service) + pad + " " + string(text)
}

// entry is a log line in its parts.
type entry struct {
	at, level, logger, message, trace, correlation, stack string

	rest []field
}

func entryOf(fields []field) entry {
	var e entry
	for _, f := range fields {
		switch f.key {
		case "ts":
			e.at = localTime(f)
		case "level":
			e.level = strings.ToUpper(f.text())
		case "logger":
			e.logger = f.text()
		case "msg":
			e.message = f.text()
		case "trace_id":
			e.trace = f.text()
		case "correlation_id":
			e.correlation = f.text()
		case "stacktrace":
			e.stack = f.text()
		case "service", "version", "environment", "span_id": // the same in every line, or of no use to a reader
		default:
			e.rest = append(e.rest, f)
		}
	}
	return e
}

func localTime(f field) string {
	if t, err := time.Parse(time.RFC3339Nano, f.text()); err == nil {
		return t.Local().Format(clock)
	}
	return f.text()
}

// text renders 12:04:05.123 order INFO  message key=value trace=…
func (v *View) text(service string, fields []field) []byte {
	e := entryOf(fields)
	var b bytes.Buffer
	b.WriteString(v.style(e.level, fmt.Sprintf("%-5s", e.level)))
	if e.logger != "" {
		b.WriteString(" " + v.style("key", "["+e.logger+"]"))
	}
	b.WriteString(" " + e.message)
	for _, f := range e.rest {
		b.WriteString(" " + v.style("key", f.key+"=") + quote(f.text()))
	}
	if e.correlation != "" && e.correlation != e.trace {
		b.WriteString(" " + v.style("key", "correlation=") + quote(e.correlation))
	}
	if e.trace != "" {
		b.WriteString(" " + v.style("trace", "trace="+e.trace))
	}
	line := v.prefix(e.at, service, b.Bytes()) + "\n"
	for stack := range strings.Lines(e.stack) {
		line += "    " + v.style("trace", strings.TrimRight(stack, "\n")) + "\n"
	}
	return []byte(line)
}

// quote makes a value readable as one word.
func quote(value string) string {
	if value == "" || strings.ContainsAny(value, " \t\n\r\"=") && value[0] != '{' && value[0] != '[' {
		return strconv.Quote(value)
	}
	return value
}
