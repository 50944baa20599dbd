package rules

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	// asks is a query that an annotation builds and runs, as printf "…" … | query, or "…" | query.
	asks = regexp.MustCompile(`"((?:\\.|[^"\\])*)"[^|{}"]*\|\s*query\b`)
	// asked is a query that a command of a runbook sends to Prometheus.
	asked = regexp.MustCompile(`'query=([^']*)'`)
)

// Queries returns everything that the rule asks of Prometheus: its expression, and the queries in
// its annotations, with their placeholders (%s) as they are.
func (r Rule) Queries() []string {
	all := []string{r.Expr}
	for _, text := range r.Annotations {
		for _, m := range asks.FindAllStringSubmatch(text, -1) {
			query, err := strconv.Unquote(`"` + m[1] + `"`)
			if err != nil {
				query = m[1]
			}
			all = append(all, query)
		}
	}
	return all
}

// RunbookQueries returns what the commands of a runbook ask of Prometheus.
func RunbookQueries(text string) []string {
	var all []string
	for _, m := range asked.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.TrimSpace(m[1]))
	}
	return all
}
