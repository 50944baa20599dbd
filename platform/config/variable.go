package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// variable is a field that is filled from the environment.
type variable struct {
	name   string // with the prefix
	prefix string
	field  reflect.StructField
	value  reflect.Value
}

// eachVariable calls fn for every tagged field below s, in the order of the fields.
func eachVariable(s reflect.Value, fn func(variable)) { eachPrefixed(s, "", fn) }

func eachPrefixed(s reflect.Value, prefix string, fn func(variable)) {
	for i := range s.NumField() {
		field := s.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		if name, _, _ := strings.Cut(field.Tag.Get("env"), ","); name != "" {
			fn(variable{name: prefix + name, prefix: prefix, field: field, value: s.Field(i)})
		} else if field.Type.Kind() == reflect.Struct {
			eachPrefixed(s.Field(i), prefix+field.Tag.Get("envPrefix"), fn)
		}
	}
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
		Prefix:      v.prefix,
		FuncMap:     map[reflect.Type]env.ParserFunc{reflect.TypeFor[time.Duration](): parseDuration},
	})
	if err != nil {
		return v.explain(err)
	}
	v.value.Set(holder.Elem().Field(0))
	if list, ok := v.value.Addr().Interface().(*[]string); ok {
		*list = trimmed(*list)
	}
	return nil
}

// explain says what is wrong in the words of who sets the variable.
func (v variable) explain(err error) error {
	var unset env.VarIsNotSetError
	if errors.As(err, &unset) {
		return errors.New("is required and not set")
	}
	if v.field.Type == reflect.TypeFor[Secret]() {
		return errors.New("cannot be read")
	}
	var parse env.ParseError // It has no Unwrap.
	if errors.As(err, &parse) {
		err = parse.Err
	}
	var number *strconv.NumError
	if errors.As(err, &number) {
		return explainNumber(number)
	}
	return err
}

func explainNumber(e *strconv.NumError) error {
	switch {
	case errors.Is(e, strconv.ErrRange):
		return fmt.Errorf("%s is too large", e.Num)
	case e.Func == "ParseBool":
		return fmt.Errorf("%q is neither true nor false", e.Num)
	case e.Func == "ParseFloat":
		return fmt.Errorf("%q is no number", e.Num)
	}
	return fmt.Errorf("%q is no whole number", e.Num)
}

func parseDuration(s string) (any, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, fmt.Errorf("%q is no duration: write for example 5s, 250ms or 1m30s", s)
	}
	return d, nil
}

// trimmed returns list without the spaces round its elements and without empty ones, since people
// write "a, b".
func trimmed(list []string) []string {
	list = slices.Clone(list)
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}
