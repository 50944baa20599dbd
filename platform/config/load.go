package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Load fills *cfg from environ, which has the form of os.Environ. Fields whose variable is unset
// keep the value they have, so a program sets the defaults that depend on it before. Then the
// SetDefaults method of every nested struct is called, innermost first, and then every Validate
// method. All that is wrong is returned at once, as an [*Error].
func Load[T any](environ []string, cfg *T) error {
	vars := lookup(environ)
	root := reflect.ValueOf(cfg).Elem()
	var problems []string
	eachVariable(root, func(v variable) {
		if err := v.parse(vars); err != nil {
			problems = append(problems, v.name+": "+err.Error())
		}
	})
	if len(problems) == 0 { // A value that could not be read would be reported twice.
		eachStruct(root, func(s reflect.Value) {
			if d, ok := s.Addr().Interface().(interface{ SetDefaults() }); ok {
				d.SetDefaults()
			}
		})
	}
	eachStruct(root, func(s reflect.Value) {
		if v, ok := s.Addr().Interface().(interface{ Validate() error }); ok && len(problems) == 0 {
			problems = append(problems, lines(v.Validate())...)
		}
	})
	if len(problems) == 0 {
		return nil
	}
	return &Error{Problems: slices.Compact(problems)}
}

// Error lists everything that is wrong with the environment.
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

// variable is a field that is filled from the environment.
type variable struct {
	name  string
	field reflect.StructField
	value reflect.Value
}

// parse reads the variable into its field. Each one is parsed on its own, in a struct that has
// only this field, so that an error can name it.
func (v variable) parse(vars map[string]string) error {
	holder := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: v.field.Name, Type: v.field.Type, Tag: v.field.Tag,
	}}))
	holder.Elem().Field(0).Set(v.value)
	err := env.ParseWithOptions(holder.Interface(), env.Options{
		Environment: vars,
		FuncMap:     map[reflect.Type]env.ParserFunc{reflect.TypeFor[time.Duration](): parseDuration},
	})
	if err == nil {
		v.value.Set(holder.Elem().Field(0))
		return nil
	}
	return v.explain(err)
}

func (v variable) explain(err error) error {
	var unset env.VarIsNotSetError
	var parse env.ParseError
	switch {
	case errors.As(err, &unset):
		return errors.New("is required and not set")
	case v.field.Type == reflect.TypeFor[Secret]():
		return errors.New("cannot be read")
	case errors.As(err, &parse):
		return parse.Err
	}
	return err
}

func parseDuration(s string) (any, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, fmt.Errorf("%q is no duration: write for example 5s, 250ms or 1m30s", s)
	}
	return d, nil
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

// eachVariable calls fn for every tagged field below s, in the order of the fields.
func eachVariable(s reflect.Value, fn func(variable)) {
	for i := range s.NumField() {
		field := s.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		if name, _, _ := strings.Cut(field.Tag.Get("env"), ","); name != "" {
			fn(variable{name: name, field: field, value: s.Field(i)})
		} else if field.Type.Kind() == reflect.Struct {
			eachVariable(s.Field(i), fn)
		}
	}
}

// eachStruct calls fn for s and every struct below it, innermost first.
func eachStruct(s reflect.Value, fn func(reflect.Value)) {
	for i := range s.NumField() {
		if s.Type().Field(i).IsExported() && s.Field(i).Kind() == reflect.Struct {
			eachStruct(s.Field(i), fn)
		}
	}
	fn(s)
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
