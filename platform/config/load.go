package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Load fills *cfg, a struct, from environ, which has the form of os.Environ. Fields whose variable
// is unset keep the value they have, so a program sets the defaults that depend on it before. Then
// the SetDefaults method of every nested struct is called, innermost first, and then every Validate
// method, which returns a line for each value it refuses, beginning with the variable's name. All
// that is wrong is returned at once, as an [*Error]; *cfg must not be used then.
func Load[T any](environ []string, cfg *T) error {
	vars := lookup(environ)
	root := reflect.ValueOf(cfg).Elem()
	var found problems
	known := map[string]bool{}
	eachVariable(root, func(v variable) {
		known[v.name] = true
		if err := v.parse(vars); err != nil {
			found.add(v.name + ": " + err.Error())
		}
	})
	eachStruct(root, "", func(s reflect.Value, _ string) {
		if d, ok := s.Addr().Interface().(interface{ SetDefaults() }); ok {
			d.SetDefaults()
		}
	})
	unread := found.names()
	eachStruct(root, "", func(s reflect.Value, prefix string) {
		for _, line := range refusals(s) {
			if name, _, _ := strings.Cut(line, ":"); known[prefix+name] {
				line = prefix + line // The component does not know its prefix.
			}
			found.addUnless(unread, line)
		}
	})
	if len(found) == 0 {
		return nil
	}
	return &Error{Problems: found}
}

// Error lists everything that is wrong with the environment, without secrets.
type Error struct {
	// Problems has a line for each, beginning with the name of the variable where one can be
	// named.
	Problems []string
}

// Error returns all problems, a line each.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "invalid configuration: " + e.Problems[0]
	}
	return fmt.Sprintf("invalid configuration, %d problems:\n  %s", len(e.Problems), strings.Join(e.Problems, "\n  "))
}

// problems are the lines of an Error.
type problems []string

// add appends a line, once. An outer Validate often calls that of an inner struct.
func (p *problems) add(line string) {
	if line = maskPasswords(line); !slices.Contains(*p, line) {
		*p = append(*p, line)
	}
}

// addUnless appends the line if it does not speak of one of the variables. What could not be read
// has been reported, and what it left in the struct is nobody's mistake.
func (p *problems) addUnless(names []string, line string) {
	if name, _, _ := strings.Cut(line, ":"); !slices.Contains(names, name) {
		p.add(line)
	}
}

func (p problems) names() []string {
	names := make([]string, len(p))
	for i, line := range p {
		names[i], _, _ = strings.Cut(line, ":")
	}
	return names
}

// lookup turns environ into a map without the empty variables, which count as unset.
func lookup(environ []string) map[string]string {
	vars := env.ToMap(environ)
	for name, value := range vars {
		if value == "" {
			delete(vars, name)
		}
	}
	return vars
}

// refusals are the lines of what the Validate method of s returns.
func refusals(s reflect.Value) []string {
	v, ok := s.Addr().Interface().(interface{ Validate() error })
	if !ok {
		return nil
	}
	err := v.Validate()
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// eachStruct calls fn for s and every struct below it, innermost first, with the prefix of its
// variables.
func eachStruct(s reflect.Value, prefix string, fn func(s reflect.Value, prefix string)) {
	for i := range s.NumField() {
		field := s.Type().Field(i)
		if field.IsExported() && field.Type.Kind() == reflect.Struct {
			eachStruct(s.Field(i), prefix+field.Tag.Get("envPrefix"), fn)
		}
	}
	fn(s, prefix)
}
