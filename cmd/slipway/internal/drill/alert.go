package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Alert selects alerts of Prometheus: those of its name that have all of its labels.
type Alert struct {
	Name   string
	Labels map[string]string
}

// String shows what is selected, as DeadLettersGrowing{service=payment}.
func (a Alert) String() string { return show(a.Name, a.Labels) }

// selects tells whether an alert with these labels is meant.
func (a Alert) selects(labels map[string]string) bool {
	for k, v := range a.Labels {
		if labels[k] != v {
			return false
		}
	}
	return labels["alertname"] == a.Name
}

// named selects alerts of whatever labels.
func named(names ...string) (all []Alert) {
	for _, n := range names {
		all = append(all, Alert{Name: n})
	}
	return all
}

// of selects alerts about a service.
func of(service string, names ...string) (all []Alert) {
	for _, n := range names {
		all = append(all, Alert{Name: n, Labels: map[string]string{"service": service}})
	}
	return all
}

// labelled selects the alerts of a name with a label.
func labelled(name, label, value string) []Alert {
	return []Alert{{Name: name, Labels: map[string]string{label: value}}}
}

// anyOf tells whether one of the alerts is meant by the labels.
func anyOf(alerts []Alert, labels map[string]string) bool {
	return slices.ContainsFunc(alerts, func(a Alert) bool { return a.selects(labels) })
}

// show writes an alert with the labels that tell it apart.
func show(name string, labels map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k != "alertname" && k != "owner" && k != "severity" {
			pairs = append(pairs, k+"="+labels[k])
		}
	}
	if len(pairs) == 0 {
		return name
	}
	return fmt.Sprintf("%s{%s}", name, strings.Join(pairs, ", "))
}
