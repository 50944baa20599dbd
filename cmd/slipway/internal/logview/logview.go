// Package logview merges the logs of several services into one that people can
// read, or that programs can.
package logview

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Format is how lines are shown.
type Format string

// The formats.
const (
	// Text renders JSON lines for people and passes others through.
	Text Format = "text"
	// JSON passes lines through as they are, with the service's name in each.
	JSON Format = "json"
)

// String returns the format's name.
func (f *Format) String() string { return string(*f) }

// Set takes the name of a format.
func (f *Format) Set(name string) error {
	switch Format(name) {
	case Text, JSON:
		*f = Format(name)
		return nil
	}
	return fmt.Errorf("want %s or %s", Text, JSON)
}

// Type names the choice in the help.
func (*Format) Type() string { return "text|json" }

// View writes the merged log. Its streams may be written to at the same time, if
// its output allows that.
type View struct {
	out    io.Writer
	format Format
	style  style
	width  int
}

// New makes a view of the services' logs. Every line is one Write to out.
func New(out io.Writer, format Format, colour bool, services []string) *View {
	v := &View{out: out, format: format, style: plain}
	if colour {
		v.style = coloured
	}
	for _, s := range services {
		v.width = max(v.width, len(s))
	}
	return v
}

// maxLine bounds what is kept of a line without an end.
const maxLine = 1 << 20

// Stream takes the output of one service. It is safe for concurrent use.
type Stream struct {
	view    *View
	service string

	mu   sync.Mutex
	part []byte
	last [][]byte
}

// Stream returns the writer for the output of a service.
func (v *View) Stream(service string) *Stream { return &Stream{view: v, service: service} }

// Write shows the lines that are complete and keeps the rest for later. It never
// fails: a service must not stop because nobody watches.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part = append(s.part, p...)
	for {
		line, rest, ok := bytes.Cut(s.part, []byte("\n"))
		if !ok && len(line) < maxLine {
			return len(p), nil
		}
		s.show(line)
		s.part = append(s.part[:0], rest...)
	}
}

// Flush shows a last line that has no end.
func (s *Stream) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.part) > 0 {
		s.show(s.part)
		s.part = nil
	}
}

// tail is how many lines Last returns.
const tail = 10

// Last returns the last ten lines as they are shown.
func (s *Stream) Last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(bytes.Join(s.last, nil))
}

func (s *Stream) show(line []byte) {
	line = bytes.TrimRight(line, "\r")
	if len(line) == 0 {
		return
	}
	shown := s.view.render(s.service, line)
	if len(s.last) == tail {
		s.last = slices.Delete(s.last, 0, 1)
	}
	s.last = append(s.last, shown)
	_, _ = s.view.out.Write(shown)
}

func (v *View) render(service string, line []byte) []byte {
	fields, isObject := parse(line)
	switch {
	case v.format == JSON:
		return jsonLine(service, line, fields, isObject)
	case isObject:
		return v.text(service, fields)
	default:
		return fmt.Appendf(nil, "%s\n", v.prefix("", service, line))
	}
}
