// Package grafana carries the dashboards, and reads what they ask of Prometheus and Loki
// so that a test can ask the same.
package grafana

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// FS holds the dashboards, in files named after their uid.
//
//go:embed dashboards/*.json
var FS embed.FS

// Dashboard is the part of a dashboard's JSON that decides what is asked and found.
type Dashboard struct {
	UID, Title, Description string
	SchemaVersion           int
	Tags                    []string
	Panels                  []Panel
	Templating              struct{ List []Variable }
	Annotations             struct{ List []Annotation }
}

// Panel is a panel or, with the type "row", a heading.
type Panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               Datasource
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults struct {
			Unit string
			// NoValue is shown when there is nothing to show, and says that this is well.
			NoValue string
		}
	}
	Targets []Target
	Links   []struct{ Title, URL string }
}

// Target is a query of a panel.
type Target struct{ RefID, Expr, LegendFormat string }

// Datasource is what answers a query.
type Datasource struct{ Type, UID string }

// Variable is a choice at the head of a dashboard.
type Variable struct {
	Name, Type, AllValue string
	Datasource           Datasource
	// Query is a text for the type "datasource", an object otherwise.
	Query   json.RawMessage
	Current struct{ Value any }
}

// Annotation marks points in time in all panels.
type Annotation struct {
	Name, Expr, TitleFormat, TextFormat string
	BuiltIn                             int
	Datasource                          Datasource
}

// Dashboards returns all of them, in the order of their uids.
func Dashboards() ([]Dashboard, error) {
	files, err := FS.ReadDir("dashboards")
	if err != nil {
		return nil, fmt.Errorf("list dashboards: %w", err)
	}
	all := make([]Dashboard, len(files))
	for i, f := range files {
		text, err := FS.ReadFile(path.Join("dashboards", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read dashboard: %w", err)
		}
		if err := json.Unmarshal(text, &all[i]); err != nil {
			return nil, fmt.Errorf("parse dashboard %s: %w", f.Name(), err)
		}
	}
	return all, nil
}

// Query is something that a dashboard asks.
type Query struct {
	// From says where it stands: the uid of the dashboard, the panel's title and the
	// target's letter, or what else it is.
	From string
	// Source is the type of what answers it: "prometheus" or "loki".
	Source string
	// Expr is the expression, with Grafana's variables in it.
	Expr string
	// Legend is the text, with {{label}} in it, that names a series of the answer.
	Legend string
	// MayBeEmpty says that an empty answer is a healthy one.
	MayBeEmpty bool
}

// Queries returns what the panels, the annotations and the variables ask.
func (d Dashboard) Queries() []Query {
	var all []Query
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			all = append(all, Query{
				From: d.UID + "/" + p.Title + "/" + t.RefID, Source: p.Datasource.Type, Expr: t.Expr, Legend: t.LegendFormat,
				MayBeEmpty: p.FieldConfig.Defaults.NoValue != "",
			})
		}
	}
	for _, a := range d.Annotations.List {
		if a.BuiltIn == 0 {
			all = append(all, Query{
				From: d.UID + "/annotation " + a.Name, Source: a.Datasource.Type, Expr: a.Expr, Legend: a.TitleFormat + a.TextFormat, MayBeEmpty: true,
			})
		}
	}
	for _, v := range d.Templating.List {
		if selector, label, ok := v.Values(); ok {
			all = append(all, Query{
				From: d.UID + "/variable " + v.Name, Source: v.Datasource.Type, Expr: "group by (" + label + ") (" + selector + ")", Legend: "{{" + label + "}}",
			})
		}
	}
	return all
}

// Values returns the series, and the label of theirs, that a variable takes its values
// from.
func (v Variable) Values() (selector, label string, ok bool) {
	var query struct{ Query string }
	if v.Type != "query" || json.Unmarshal(v.Query, &query) != nil {
		return "", "", false
	}
	inner, ok := strings.CutPrefix(query.Query, "label_values(")
	comma := strings.LastIndex(inner, ",")
	if !ok || comma < 0 || !strings.HasSuffix(inner, ")") {
		return "", "", false
	}
	return inner[:comma], strings.TrimSpace(strings.TrimSuffix(inner[comma+1:], ")")), true
}

// Expand puts values in the place of variables, named without their $, as Grafana does.
func (q Query) Expand(values map[string]string) Query {
	for name, value := range values {
		q.Expr = strings.ReplaceAll(q.Expr, "$"+name, value)
	}
	return q
}
