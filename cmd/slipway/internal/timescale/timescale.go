// Package timescale makes the alerts of ops/ run faster: it divides every duration that an
// alert waits for, in the rules, in the scrapes and in Alertmanager's grouping, and leaves
// everything else as it is. What is rehearsed is the production text in quick motion.
package timescale

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/common/model"
)

const (
	// MinInterval is the shortest interval between two scrapes or evaluations.
	MinInterval = time.Second
	// MinWindow is the shortest range of a query: it still holds a few scrapes.
	MinWindow = 5 * time.Second
)

// File scales a file of ops/ by its path there, and returns any other unchanged.
func File(name string, text []byte, scale float64) ([]byte, error) {
	if scale == 1 {
		return text, nil
	}
	var keys map[string]time.Duration // of durations, with the least that remains of each
	switch {
	case path.Dir(name) == "prometheus/rules":
		keys = map[string]time.Duration{"for": 0, "keep_firing_for": MinInterval, "interval": MinInterval}
	case name == "prometheus/prometheus.yml":
		keys = map[string]time.Duration{"scrape_interval": MinInterval, "scrape_timeout": MinInterval, "evaluation_interval": MinInterval}
	case path.Dir(name) == "alertmanager":
		keys = map[string]time.Duration{"group_wait": 0, "group_interval": MinInterval, "repeat_interval": 2 * MinInterval}
	default:
		return text, nil
	}
	var root yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(text, &root, yaml.UseOrderedMap()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	s := scaler{by: scale, keys: keys}
	s.walk(root)
	if s.err != nil {
		return nil, fmt.Errorf("scale %s: %w", name, s.err)
	}
	scaled, err := yaml.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return scaled, nil
}

// Duration divides a duration, down to least at most. What is shorter already stays.
func Duration(d time.Duration, scale float64, least time.Duration) time.Duration {
	return max(time.Duration(float64(d)/scale).Truncate(time.Millisecond), min(d, least))
}

type scaler struct {
	by   float64
	keys map[string]time.Duration
	err  error // the first
}

func (s *scaler) walk(v any) {
	switch v := v.(type) {
	case yaml.MapSlice:
		for i := range v {
			key, _ := v[i].Key.(string)
			text, isText := v[i].Value.(string)
			least, scaled := s.keys[key]
			switch {
			case scaled && isText:
				v[i].Value = s.duration(text, least)
			case key == "expr" && isText:
				v[i].Value = s.expr(text)
			case key == "labels" || key == "annotations": // words
			default:
				s.walk(v[i].Value)
			}
		}
	case []any:
		for _, item := range v {
			s.walk(item)
		}
	}
}

func (s *scaler) duration(text string, least time.Duration) string {
	d, err := model.ParseDuration(text)
	if err != nil {
		s.fail(err)
		return text
	}
	return model.Duration(Duration(time.Duration(d), s.by, least)).String()
}

func (s *scaler) expr(text string) string {
	scaled, err := Expr(text, s.by)
	s.fail(err)
	return scaled
}

func (s *scaler) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Expr scales the ranges, the steps of subqueries and the offsets of a PromQL expression.
func Expr(text string, scale float64) (string, error) {
	var out strings.Builder
	for rest := text; rest != ""; {
		var n int
		var err error
		switch {
		case strings.ContainsAny(rest[:1], "\"'`"):
			n = quoted(rest)
			out.WriteString(rest[:n])
		case rest[0] == '#':
			n = strings.IndexByte(rest+"\n", '\n')
			out.WriteString(rest[:n])
		case rest[0] == '[':
			n, err = window(&out, rest, scale)
		case isWord(rest[0]):
			n = word(rest)
			out.WriteString(rest[:n])
			if strings.EqualFold(rest[:n], "offset") {
				var m int
				m, err = shift(&out, rest[n:], scale)
				n += m
			}
		default:
			n = 1
			out.WriteString(rest[:1])
		}
		if err != nil {
			return text, fmt.Errorf("expression %q: %w", text, err)
		}
		rest = rest[n:]
	}
	return out.String(), nil
}

// quoted returns the length of the string that rest begins with.
func quoted(rest string) int {
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && rest[0] != '`':
			i++
		case rest[i] == rest[0]:
			return i + 1
		}
	}
	return len(rest)
}

func isWord(c byte) bool {
	return c == '_' || c == ':' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func word(rest string) int {
	for i := range len(rest) {
		if !isWord(rest[i]) {
			return i
		}
	}
	return len(rest)
}

// window writes [5m] or [5m:30s] and returns how long it was.
func window(out *strings.Builder, rest string, scale float64) (int, error) {
	inside, _, closed := strings.Cut(rest[1:], "]")
	if !closed {
		return 0, fmt.Errorf("a range is not closed: %s", rest)
	}
	least := MinWindow
	parts := strings.Split(inside, ":")
	for i, part := range parts {
		if part = strings.TrimSpace(part); part == "" {
			continue // the default step of a subquery
		}
		d, err := model.ParseDuration(part)
		if err != nil {
			return 0, err
		}
		parts[i] = model.Duration(Duration(time.Duration(d), scale, least)).String()
		least = MinInterval
	}
	out.WriteString("[" + strings.Join(parts, ":") + "]")
	return len(inside) + 2, nil
}

// shift writes what follows the word offset and returns how long it was.
func shift(out *strings.Builder, rest string, scale float64) (int, error) {
	lead := len(rest) - len(strings.TrimLeft(rest, " \t\n-"))
	n := word(rest[lead:])
	d, err := model.ParseDuration(rest[lead : lead+n])
	if err != nil {
		return 0, err
	}
	out.WriteString(rest[:lead] + model.Duration(Duration(time.Duration(d), scale, MinInterval)).String())
	return lead + n, nil
}
