package logview

import (
	"bytes"
	"encoding/json"
)

// field is a member of a JSON object, in the order of the line.
type field struct {
	key   string
	value json.RawMessage
}

// parse reads a line that is one JSON object.
func parse(line []byte) ([]field, bool) {
	if len(line) == 0 || line[0] != '{' || !json.Valid(line) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	if _, err := dec.Token(); err != nil {
		return nil, false
	}
	var fields []field
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, false
		}
		f := field{key: key.(string)}
		if err := dec.Decode(&f.value); err != nil {
			return nil, false
		}
		fields = append(fields, f)
	}
	return fields, true
}

// text returns a string's content and everything else as JSON.
func (f field) text() string {
	var s string
	if json.Unmarshal(f.value, &s) == nil && f.value[0] == '"' {
		return s
	}
	return string(f.value)
}

// jsonLine returns the line with the service's name in it. What is no object
// becomes the message of one.
func jsonLine(service string, line []byte, fields []field, isObject bool) []byte {
	name, _ := json.Marshal(service)
	if !isObject {
		message, _ := json.Marshal(string(line))
		return append(append(append([]byte(`{"service":`), name...), append([]byte(`,"msg":`), message...)...), "}\n"...)
	}
	for _, f := range fields {
		if f.key == "service" {
			return append(bytes.Clone(line), '\n')
		}
	}
	named := append([]byte(`{"service":`), name...)
	if len(fields) > 0 {
		named = append(named, ',')
	}
	return append(append(named, bytes.TrimLeft(line[1:], " ")...), '\n')
}
