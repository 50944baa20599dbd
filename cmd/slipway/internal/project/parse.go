package project

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Problem is something wrong in slipway.yaml.
type Problem struct {
	Line int
	Text string
}

// Error lists all problems of a slipway.yaml.
type Error struct {
	Path     string
	Problems []Problem
}

// Error returns one line per problem, as path:line: text.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d: %s", e.Path, p.Line, p.Text)
	}
	return b.String()
}

func parse(path string, text []byte) (*Project, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxError(path, err)
	}
	d := &decoder{dir: filepath.Dir(path)}
	p := d.project(file)
	if len(d.problems) > 0 {
		slices.SortFunc(d.problems, func(a, b Problem) int {
			return cmp.Or(a.Line-b.Line, strings.Compare(a.Text, b.Text))
		})
		return nil, &Error{Path: path, Problems: d.problems}
	}
	return p, nil
}

func syntaxError(path string, err error) error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) || syntax.GetToken() == nil {
		return fmt.Errorf("parse %s: %w", path, err)
	}
	return &Error{Path: path, Problems: []Problem{{
		Line: syntax.GetToken().Position.Line, Text: syntax.GetMessage(),
	}}}
}

// decoder turns the syntax tree into a Project and collects what is wrong.
type decoder struct {
	dir      string
	problems []Problem
	calls    []call
}

// call is looked up when all services are known.
type call struct {
	node       ast.Node
	at, callee string
}

func (d *decoder) problem(n ast.Node, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: line(n), Text: fmt.Sprintf(format, args...)})
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

func (d *decoder) project(file *ast.File) *Project {
	var root ast.Node
	if len(file.Docs) > 0 {
		root = file.Docs[0].Body
	}
	p := &Project{Dir: d.dir}
	f := d.fields(root, "the file", "version", "services", "try", "load")
	if v, ok := f["version"]; !ok {
		d.problem(root, "version is missing: write version: 1")
	} else if n := d.integer(v, "version"); n != 1 && n != invalid {
		d.problem(v, "version: this program reads version 1 only")
	}
	if list, ok := f["services"]; !ok {
		d.problem(root, "services is missing: name at least one")
	} else {
		p.Services = d.services(list)
	}
	if list, ok := f["try"]; ok {
		p.Try = d.commands(list, p)
	}
	if load, ok := f["load"]; ok {
		p.Load = d.command(load, "load", p)
	}
	return p
}

func (d *decoder) commands(list ast.Node, p *Project) []string {
	var commands []string
	for _, item := range d.items(list, "try") {
		commands = append(commands, d.command(item, "try", p))
	}
	return commands
}

// command reads a text in which $NAME stands for the address of a service.
func (d *decoder) command(item ast.Node, key string, p *Project) string {
	command := d.text(item, key)
	os.Expand(command, func(name string) string {
		if _, ok := p.Service(name); !ok {
			d.problem(item, "%s: $%s: there is no service %s", key, name, name)
		}
		return ""
	})
	return command
}

func (d *decoder) services(list ast.Node) []Service {
	items := d.items(list, "services")
	if len(items) == 0 {
		d.problem(list, "services: name at least one")
	}
	names, ports := map[string]bool{}, map[int]string{}
	services := make([]Service, 0, len(items))
	for i, item := range items {
		s := d.service(item, fmt.Sprintf("services[%d]", i), ports)
		if s.Name != "" && names[s.Name] {
			d.problem(item, "services[%d].name: there are two services %s", i, s.Name)
		}
		names[s.Name] = true
		services = append(services, s)
	}
	for _, c := range d.calls {
		if !names[c.callee] {
			d.problem(c.node, "%s: there is no service %s", c.at, c.callee)
		}
	}
	return services
}

func (d *decoder) service(n ast.Node, at string, ports map[int]string) Service {
	f := d.fields(n, at, "name", "package", "migrations", "grpc", "admin", "needs", "calls")
	for _, key := range []string{"name", "package", "grpc", "admin"} {
		if _, ok := f[key]; !ok && n.Type() == ast.MappingType {
			d.problem(n, "%s.%s is missing", at, key)
		}
	}
	var s Service
	if v, ok := f["name"]; ok {
		s.Name = d.matching(v, at+".name", serviceName, "lower case letters, digits and -, at most 32, beginning with a letter")
	}
	if v, ok := f["package"]; ok {
		s.Package = d.folder(v, at+".package")
	}
	if v, ok := f["migrations"]; ok {
		s.Migrations = d.folder(v, at+".migrations")
	}
	if v, ok := f["grpc"]; ok {
		s.GRPC = d.port(v, at+".grpc", ports)
	}
	if v, ok := f["admin"]; ok {
		s.Admin = d.port(v, at+".admin", ports)
	}
	if v, ok := f["needs"]; ok {
		s.Needs = d.needs(v, at+".needs")
	}
	if v, ok := f["calls"]; ok {
		s.Calls = d.callees(v, at+".calls")
	}
	return s
}

var (
	serviceName  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
)

func (d *decoder) needs(list ast.Node, at string) []string {
	known := []string{Postgres, Redis, NATS}
	var needs []string
	for _, item := range d.items(list, at) {
		name := d.text(item, at)
		if name != "" && !slices.Contains(known, name) {
			d.problem(item, "%s: %s is not known, choose from %s", at, name, strings.Join(known, ", "))
		}
		needs = append(needs, name)
	}
	return needs
}

func (d *decoder) callees(n ast.Node, at string) map[string]string {
	calls := map[string]string{}
	for env, callee := range d.mapping(n, at) {
		if !variableName.MatchString(env) {
			d.problem(callee, "%s.%s: want the name of an environment variable, such as PAYMENT_ADDR", at, env)
		}
		if calls[env] = d.text(callee, at+"."+env); calls[env] != "" {
			d.calls = append(d.calls, call{node: callee, at: at + "." + env, callee: calls[env]})
		}
	}
	return calls
}

// folder reads the path of a folder inside the project.
func (d *decoder) folder(n ast.Node, at string) string {
	path := d.text(n, at)
	if path == "" {
		return ""
	}
	if !filepath.IsLocal(path) {
		d.problem(n, "%s: %s must be a path inside the project", at, path)
		return path
	}
	if info, err := fs.Stat(os.DirFS(d.dir), filepath.ToSlash(filepath.Clean(path))); err != nil || !info.IsDir() {
		d.problem(n, "%s: there is no folder %s", at, path)
	}
	return path
}

func (d *decoder) port(n ast.Node, at string, taken map[int]string) int {
	port := d.integer(n, at)
	switch other, twice := taken[port]; {
	case port == invalid:
	case port < 1 || port > 65535:
		d.problem(n, "%s: %d is not between 1 and 65535", at, port)
	case twice:
		d.problem(n, "%s: port %d is that of %s already", at, port, other)
	default:
		taken[port] = at
	}
	return port
}
