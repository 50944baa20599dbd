package grafana

import (
	"regexp"
	"slices"
	"strings"
)

// Selector is a metric and what is demanded of its labels, as metric{label="value"}.
type Selector struct {
	// Text is the whole of it.
	Text string
	// Metric is its name, empty in a query of Loki.
	Metric string
	// Labels are those that it compares.
	Labels []string
	// Range is what stands in the brackets behind it.
	Range string
	// Function is what it is the first argument of, empty for none.
	Function string
}

// Parts are the names that an expression of Prometheus consists of.
type Parts struct {
	Selectors []Selector
	// Grouping are the labels named by "by", "on" and their like.
	Grouping []string
	// Functions are the functions and aggregations that it calls.
	Functions []string
}

var (
	token = regexp.MustCompile(`"(?:\\.|[^"\\])*"|` + // a text
		`[a-zA-Z_:][\w:]*(?:\{[^}"]*(?:"(?:\\.|[^"\\])*"[^}"]*)*\})?(?:\[[^\]]*\])?|` + // a name, and what belongs to it
		`\{[^}"]*(?:"(?:\\.|[^"\\])*"[^}"]*)*\}|` + // labels without a name
		`\d[\w.]*|[(),]`) // numbers
	selector = regexp.MustCompile(`(?s)^([a-zA-Z_:][\w:]*)?(\{.*\})?(?:\[([^\]]*)\])?$`)
	matcher  = regexp.MustCompile(`([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"(?:\\.|[^"\\])*"`)
	grouped  = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	word     = regexp.MustCompile(`[a-zA-Z_]\w*`)

	keywords = []string{"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
)

// Parse finds the names in an expression of Prometheus. It does not check the syntax:
// Prometheus does.
func Parse(expr string) Parts {
	var p Parts
	for _, m := range grouped.FindAllStringSubmatch(expr, -1) {
		p.Grouping = append(p.Grouping, word.FindAllString(m[2], -1)...)
	}
	rest := grouped.ReplaceAllString(expr, " $1 ")
	found := token.FindAllStringIndex(rest, -1)
	at := func(i int) string {
		if i < 0 || i >= len(found) {
			return ""
		}
		return rest[found[i][0]:found[i][1]]
	}
	for i := range found {
		text := at(i)
		if !strings.ContainsAny(text[:1], "{_:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") || slices.Contains(keywords, text) {
			continue
		}
		next := at(i + 1)
		if next == "(" || next == "by" || next == "without" {
			p.Functions = append(p.Functions, text)
			continue
		}
		s := newSelector(text)
		if at(i-1) == "(" {
			s.Function = strings.Trim(at(i-2), "(")
		}
		p.Selectors = append(p.Selectors, s)
	}
	return p
}

func newSelector(text string) Selector {
	m := selector.FindStringSubmatch(text)
	s := Selector{Text: m[1] + m[2], Metric: m[1], Range: m[3]}
	for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
		s.Labels = append(s.Labels, label[1])
	}
	return s
}

var placeholder = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// LegendLabels returns the labels that the legend shows.
func (q Query) LegendLabels() []string {
	var labels []string
	for _, m := range placeholder.FindAllStringSubmatch(q.Legend, -1) {
		labels = append(labels, m[1])
	}
	return labels
}
