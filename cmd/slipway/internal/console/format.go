package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Format is the value of a flag --output.
type Format string

// The formats. Table is the default.
const (
	Table Format = "table"
	JSON  Format = "json"
)

// String returns the format's name.
func (f *Format) String() string { return string(*f) }

// Set takes the name of a format.
func (f *Format) Set(name string) error {
	switch Format(name) {
	case Table, JSON:
		*f = Format(name)
		return nil
	}
	return fmt.Errorf("want %s or %s", Table, JSON)
}

// Type names the choice in the help.
func (*Format) Type() string { return "table|json" }

// WriteJSON writes the value, indented, with a line break, in one Write.
func WriteJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// WriteTable writes the rows in columns under their header, in one Write.
func WriteTable(w io.Writer, header []string, rows [][]string) error {
	var table bytes.Buffer
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // a buffer takes everything
	if _, err := w.Write(table.Bytes()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}
