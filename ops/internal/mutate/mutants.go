package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/slipwayhq/slipway/ops/rules"
)

// mutant is a rule with one thing wrong.
type mutant struct {
	file rules.File // with the mutant in it
	rule string
	what string // what was changed
}

func (m mutant) String() string { return m.rule + ": " + m.what }

// mutants returns every one of the rules of a file.
func mutants(f rules.File) []mutant {
	var all []mutant
	for _, r := range rules.Rules([]rules.File{f}) {
		add := func(what string, change func(*rules.Rule)) {
			all = append(all, mutant{file: f.With(r.Name(), change), rule: r.Name(), what: what})
		}
		for _, e := range changes(r.Expr) {
			add(e.what, func(r *rules.Rule) { r.Expr = e.text })
		}
		for _, by := range []float64{0.5, 2} {
			if d, ok := scaled(r.For, by); ok {
				add("for: "+r.For+" -> "+d, func(r *rules.Rule) { r.For = d })
			}
			if d, ok := scaled(r.KeepFiringFor, by); ok {
				add("keep_firing_for: "+r.KeepFiringFor+" -> "+d, func(r *rules.Rule) { r.KeepFiringFor = d })
			}
		}
	}
	return all
}

func scaled(text string, by float64) (string, bool) {
	d, err := model.ParseDuration(text)
	if err != nil {
		return "", false
	}
	return model.Duration(float64(d) * by).String(), true
}

// change is an expression with one thing changed.
type change struct{ text, what string }

// tokens of an expression. What is in quotation marks or in brackets is one.
var tokens = regexp.MustCompile(`"(?:\\.|[^"\\])*"|\[[^\]]*\]|[a-zA-Z_:][\w:]*|\d+(?:\.\d+)?|>=|<=|==|!=|=~|!~|\S`)

// swaps are what a word or an operator is mistaken for.
var swaps = map[string][]string{
	"sum": {"max", "min"}, "max": {"sum", "min"}, "min": {"max"}, "count": {"sum"}, "group": {"max"},
	"rate": {"increase"}, "increase": {"rate"}, "avg_over_time": {"max_over_time"}, "min_over_time": {"max_over_time"},
	"and": {"or"}, "or": {"and"}, "unless": {"and"},
	">": {"<"}, ">=": {"<"}, "==": {"!="},
	"+": {"-"}, "-": {"+"}, "*": {"/"}, "/": {"*"},
}

// clauses are followed by labels in parentheses.
var clauses = []string{"by", "on"}

// expression finds out what may be changed in one.
type expression struct {
	text  string
	at    [][]int
	found []change
}

// changes returns the expression with each of its parts changed.
func changes(text string) []change {
	e := &expression{text: text, at: tokens.FindAllStringIndex(text, -1)}
	for i := 0; i < len(e.at); i++ {
		t := e.token(i)
		switch {
		case t == "{":
			i = e.matchers(i)
		case slices.Contains(clauses, t):
			i = e.labels(i)
		case t[0] >= '0' && t[0] <= '9':
			e.number(i)
		case swaps[t] != nil:
			for _, other := range swaps[t] {
				e.replace(i, i, other)
			}
			if t == ">" && whole(e.token(i+1)) && !slices.Contains([]string{"*", "/"}, e.token(i+2)) {
				e.replace(i, i, ">=")
			}
		case isWord(t) && e.token(i+1) != "(":
			e.replace(i, i, t+"_other")
		}
	}
	return e.found
}

func isWord(t string) bool { return t[0] == '_' || t[0]|0x20 >= 'a' && t[0]|0x20 <= 'z' }

func whole(t string) bool {
	_, err := strconv.Atoi(t)
	return err == nil
}

// token is the i-th, empty behind the last.
func (e *expression) token(i int) string {
	if i >= len(e.at) {
		return ""
	}
	return e.text[e.at[i][0]:e.at[i][1]]
}

// replace puts something else in place of the tokens from one to another.
func (e *expression) replace(from, to int, with string) {
	start, end := e.at[from][0], e.at[to][1]
	old := e.text[start:end]
	near := strings.Join(strings.Fields(e.text[max(0, start-40):start]), " ")
	e.found = append(e.found, change{
		text: e.text[:start] + with + e.text[end:],
		what: fmt.Sprintf("%s -> %s after %q at %d", old, with, near, start),
	})
}

// number makes it a fifth smaller and a quarter larger.
func (e *expression) number(i int) {
	n, err := strconv.ParseFloat(e.token(i), 64)
	if err != nil {
		return
	}
	values := []float64{n * 0.8, n * 1.25}
	if n == 0 {
		values = []float64{-1, 1}
	}
	for _, v := range values {
		e.replace(i, i, strconv.FormatFloat(v, 'g', 6, 64))
	}
}

// labels leaves each label of a clause out, and returns where the clause ends.
func (e *expression) labels(i int) int {
	first, last := i+2, i+2
	for e.token(last) != ")" {
		last++
	}
	var names []string
	for n := first; n < last; n += 2 {
		names = append(names, e.token(n))
	}
	for n := range names {
		e.replace(first, last-1, strings.Join(slices.Delete(slices.Clone(names), n, n+1), ", ")+" ")
	}
	return last
}

var negated = map[string]string{"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}

// matchers leaves each one out, turns each around, and leaves out each alternative of a pattern. It
// returns where the braces end.
func (e *expression) matchers(i int) int {
	last := i
	for e.token(last) != "}" {
		last++
	}
	for n := i + 1; n < last; n += 4 { // label, operator, value, comma
		end := n + 2
		if e.token(n+3) == "," {
			end++
		}
		e.replace(n, end, "")
		e.replace(n+1, n+1, negated[e.token(n+1)])
		if pattern := strings.Trim(e.token(n+2), `"`); strings.Contains(e.token(n+1), "~") {
			parts := strings.Split(pattern, "|")
			for p := range parts {
				if len(parts) > 1 {
					e.replace(n+2, n+2, strconv.Quote(strings.Join(slices.Delete(slices.Clone(parts), p, p+1), "|")))
				}
			}
		}
	}
	return last
}

// patience bounds the tests of one mutant.
const patience = 2 * time.Minute
