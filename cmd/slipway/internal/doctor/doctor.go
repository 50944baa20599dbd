// Package doctor finds out whether a machine has what slipway dev needs.
package doctor

import (
	"context"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// Status is the outcome of a check.
type Status string

// The outcomes. Only Fail keeps slipway dev from running.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Result is what a check has found.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	// Mend says what to do about it.
	Mend string `json:"mend,omitempty"`
}

func ok(detail string) Result         { return Result{Status: OK, Detail: detail} }
func warn(detail, mend string) Result { return Result{Status: Warn, Detail: detail, Mend: mend} }
func fail(detail, mend string) Result { return Result{Status: Fail, Detail: detail, Mend: mend} }

// Doctor examines a machine.
type Doctor struct {
	// Environ is the environment that slipway dev would have.
	Environ []string
	// Program is how the user calls this program.
	Program string
	// PortOffset is added to every fixed port.
	PortOffset int
}

// Examine checks everything that the project in dir needs, in the order in which
// slipway dev meets it.
func (d Doctor) Examine(ctx context.Context, dir string) []Result {
	p, err := project.Open(dir)
	if err != nil {
		return []Result{
			named("project", fail(err.Error(), "mend "+project.FileName+", or change to the folder of a project")),
			named("go", d.compiler(ctx, dir)),
		}
	}
	results := []Result{named("project", ok(p.Dir)), named("go", d.compiler(ctx, p.Dir))}
	for _, c := range []struct {
		name  string
		check func(context.Context, *project.Project) Result
	}{
		{"account", d.account},
		{"folder", d.folder},
		{"disk space", d.disk},
		{"postgresql", d.postgres},
		{"redis", d.redis},
		{"nats", d.nats},
		{"ports", d.ports},
		{"leftovers", d.leftovers},
		{"prometheus", d.prometheus},
	} {
		results = append(results, named(c.name, c.check(ctx, p)))
	}
	return results
}

func named(name string, r Result) Result {
	r.Name = name
	return r
}

// Failed tells whether a check found what keeps slipway dev from running.
func Failed(results []Result) bool {
	for _, r := range results {
		if r.Status == Fail {
			return true
		}
	}
	return false
}
