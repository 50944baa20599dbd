package config

import (
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
)

// Print writes the effective configuration as a table: each variable, its value, and whether it
// comes from environ or is the default. Secrets are masked, and so are passwords inside URLs and
// connection strings. cfg is a pointer to what [Load] filled.
func Print[T any](w io.Writer, environ []string, cfg *T) error {
	vars := lookup(environ)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tVALUE\tSOURCE")
	eachVariable(reflect.ValueOf(cfg).Elem(), func(v variable) {
		source := "default"
		if _, ok := vars[v.name]; ok {
			source = "environment"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", v.name, show(v.value), source)
	})
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return nil
}

func show(v reflect.Value) string {
	text := fmt.Sprint(v.Interface())
	if list, ok := v.Interface().([]string); ok {
		text = strings.Join(list, ",")
	}
	if text == "" {
		return "-"
	}
	return maskPasswords(text)
}

var passwords = []*regexp.Regexp{
	regexp.MustCompile(`(://[^:/?#\s]*:)\S+(@)`),               // scheme://user:password@host; greedy, since the password may hold an @
	regexp.MustCompile(`((?:nats|tls)://)[^:/?#\s@]+(@)`),      // nats://token@host
	regexp.MustCompile(`(?i)(password=)(?:'[^']*'|[^\s&]+)()`), // keyword/value strings and query parameters
}

func maskPasswords(s string) string {
	for _, p := range passwords {
		s = p.ReplaceAllString(s, "${1}"+mask+"${2}")
	}
	return s
}
