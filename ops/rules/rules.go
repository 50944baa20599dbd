// Package rules reads the rules of Prometheus in ops/ and runs their tests.
package rules

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// File is a file of rules.
type File struct {
	// Name is that of the file, as grpc.yml.
	Name   string  `yaml:"-"`
	Groups []Group `yaml:"groups"`
}

// Group is evaluated as one, in order.
type Group struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []Rule `yaml:"rules"`
}

// Rule is an alert or, with Record, a query whose result gets a name.
type Rule struct {
	Record        string            `yaml:"record,omitempty"`
	Alert         string            `yaml:"alert,omitempty"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for,omitempty"`
	KeepFiringFor string            `yaml:"keep_firing_for,omitempty"`
	Labels        map[string]string `yaml:"labels,omitempty"`
	Annotations   map[string]string `yaml:"annotations,omitempty"`
}

// Name is that of the alert or of the record.
func (r Rule) Name() string { return r.Alert + r.Record }

// Read returns the files of rules that match a pattern of [fs.Glob], in the order of their names.
func Read(fsys fs.FS, pattern string) ([]File, error) {
	names, err := fs.Glob(fsys, pattern)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	var files []File
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		f := File{Name: path.Base(name)}
		if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// Rules returns the rules of all files.
func Rules(files []File) []Rule {
	var all []Rule
	for _, f := range files {
		for _, g := range f.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

// Alerts returns those of the rules that are alerts.
func Alerts(files []File) []Rule {
	return slices.DeleteFunc(Rules(files), func(r Rule) bool { return r.Alert == "" })
}

// With returns the file with another rule in place of the one of that name.
func (f File) With(name string, change func(*Rule)) File {
	f.Groups = slices.Clone(f.Groups)
	for g := range f.Groups {
		f.Groups[g].Rules = slices.Clone(f.Groups[g].Rules)
		for r := range f.Groups[g].Rules {
			if rule := &f.Groups[g].Rules[r]; rule.Name() == name {
				change(rule)
			}
		}
	}
	return f
}

// For returns the file with only one alert and the records that it stands on.
func (f File) For(alert string) File {
	all := Rules([]File{f})
	needed := map[string]bool{alert: true}
	for i := len(all) - 1; i >= 0; i-- { // a record stands before its use
		for _, r := range all[i+1:] {
			if needed[r.Name()] && all[i].Record != "" && strings.Contains(r.Expr, all[i].Record) {
				needed[all[i].Record] = true
			}
		}
	}
	f.Groups = slices.Clone(f.Groups)
	for g := range f.Groups {
		f.Groups[g].Rules = slices.DeleteFunc(slices.Clone(f.Groups[g].Rules), func(r Rule) bool { return !needed[r.Name()] })
	}
	return f
}

// Has says whether a rule of that name is in the file.
func (f File) Has(name string) bool {
	return slices.ContainsFunc(Rules([]File{f}), func(r Rule) bool { return r.Name() == name })
}
