package project

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// invalid is what integer returns for a value that it has reported.
const invalid = -1

// fields reads a mapping that may have only the known keys.
func (d *decoder) fields(n ast.Node, at string, known ...string) map[string]ast.Node {
	all := d.mapping(n, at)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(known, key) {
			d.problem(all[key], "%s: %s is not known, choose from %s", at, key, strings.Join(known, ", "))
		}
	}
	return all
}

func (d *decoder) mapping(n ast.Node, at string) map[string]ast.Node {
	fields := map[string]ast.Node{}
	switch m := n.(type) {
	case *ast.MappingNode:
		for _, v := range m.Values {
			fields[v.Key.GetToken().Value] = v.Value
		}
	case *ast.NullNode:
	default:
		d.problem(n, "%s: want keys and values", at)
	}
	return fields
}

func (d *decoder) items(n ast.Node, at string) []ast.Node {
	switch list := n.(type) {
	case *ast.SequenceNode:
		return list.Values
	case *ast.NullNode:
	default:
		d.problem(n, "%s: want a list", at)
	}
	return nil
}

func (d *decoder) text(n ast.Node, at string) string {
	s, ok := n.(*ast.StringNode)
	if !ok || s.Value == "" {
		d.problem(n, "%s: want a text", at)
		return ""
	}
	return s.Value
}

func (d *decoder) matching(n ast.Node, at string, want *regexp.Regexp, rule string) string {
	s := d.text(n, at)
	if s != "" && !want.MatchString(s) {
		d.problem(n, "%s: %q will not do: %s", at, s, rule)
	}
	return s
}

func (d *decoder) integer(n ast.Node, at string) int {
	if i, ok := n.(*ast.IntegerNode); ok {
		switch v := i.Value.(type) {
		case int64:
			return int(v)
		case uint64:
			return int(min(v, 1<<31))
		}
	}
	d.problem(n, "%s: want a whole number", at)
	return invalid
}
