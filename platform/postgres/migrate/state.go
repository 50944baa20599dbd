package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Condition is what a migration's file and its row say together.
type Condition string

// The conditions of a migration. Up applies the pending and partial ones, accepts
// the newer ones and refuses to run while there is one of the others.
const (
	ConditionApplied    Condition = "applied"
	ConditionPending    Condition = "pending"
	ConditionPartial    Condition = "partial"      // a file without a transaction that stopped half way
	ConditionNewer      Condition = "newer"        // applied, newer than every file: the program is older than the schema
	ConditionChanged    Condition = "changed"      // the file was edited after it was applied
	ConditionMissing    Condition = "missing"      // applied, but the file is gone although newer ones are there
	ConditionOutOfOrder Condition = "out of order" // not applied although a newer one is
)

// State is one migration, as it is in the files and in the database.
type State struct {
	Component, Version, Description string
	Condition                       Condition
	AppliedAt                       time.Time // zero when never applied
	AppliedBy                       string
	Execution                       time.Duration
	Done, Total                     int    // statements
	Error                           string // of the last attempt, when partial
}

// refusal says why Up does not go on, or nothing.
func (s State) refusal() error {
	id := s.Component + " " + s.Version
	switch s.Condition {
	case ConditionChanged:
		return fmt.Errorf("%s: the file was changed after it was applied: restore it and put the change into a new migration", id)
	case ConditionMissing:
		return fmt.Errorf("%s: applied to the database, but its file is gone although newer ones are there: restore it", id)
	case ConditionOutOfOrder:
		return fmt.Errorf("%s: a newer migration is applied already: give this one a newer version (rename the file, then run: slipway migrate hash)", id)
	default:
		return nil
	}
}

// compare joins the files of one component with its history, by version.
func compare(component string, files []file, rows []row) []State {
	known := map[string]file{}
	versions := map[string]bool{}
	newest := ""
	for _, f := range files {
		known[f.version], versions[f.version] = f, true
		newest = max(newest, f.version)
	}
	applied := map[string]row{}
	newestApplied := ""
	for _, r := range rows {
		applied[r.version], versions[r.version] = r, true
		newestApplied = max(newestApplied, r.version)
	}
	var states []State
	for version := range versions {
		f, isFile := known[version]
		r, isRow := applied[version]
		s := State{
			Component: component, Version: version, Description: f.description, Total: len(f.stmts),
			AppliedAt: r.appliedAt, AppliedBy: r.appliedBy, Execution: r.execution, Done: r.done, Error: r.err,
		}
		switch {
		case !isFile && version > newest:
			s.Condition, s.Description, s.Total = ConditionNewer, r.description, r.total
		case !isFile:
			s.Condition, s.Description, s.Total = ConditionMissing, r.description, r.total
		case !isRow && version < newestApplied:
			s.Condition = ConditionOutOfOrder
		case !isRow:
			s.Condition = ConditionPending
		case r.partial() && r.statementsHash == f.statementsHash(r.done):
			s.Condition = ConditionPartial // what is left may have been mended
		case r.partial() || r.hash != f.hash:
			s.Condition = ConditionChanged
		default:
			s.Condition = ConditionApplied
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b State) int {
		if a.Version < b.Version {
			return -1
		}
		return 1
	})
	return states
}

// statesOf compares every component, in the order in which they were given.
func statesOf(comps []Component, files map[string][]file, rows map[string][]row) []State {
	var states []State
	for _, c := range comps {
		states = append(states, compare(c.Name, files[c.Name], rows[c.Name])...)
	}
	return states
}

// pending returns the files that are to be applied, or why nothing may be.
func (c Config) pending(states []State, files map[string][]file) ([]file, error) {
	var todo []file
	var errs []error
	for _, s := range states {
		errs = append(errs, s.refusal())
		switch s.Condition {
		case ConditionPending, ConditionPartial:
			i := slices.IndexFunc(files[s.Component], func(f file) bool { return f.version == s.Version })
			todo = append(todo, files[s.Component][i])
		case ConditionNewer:
			if c.RefuseNewer {
				errs = append(errs, fmt.Errorf("%s %s: applied to the database by a newer program than this one", s.Component, s.Version))
			}
			c.notice("%s %s (%s) was applied by a newer program than this one; leaving it", s.Component, s.Version, s.Description)
		default:
		}
	}
	return todo, errors.Join(errs...)
}

// Status returns every migration that the files or the database know, oldest
// first within its component. It changes nothing and needs no lock.
func Status(ctx context.Context, databaseURL string, comps ...Component) ([]State, error) {
	files, err := read(comps)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	conn, err := connect(ctx, databaseURL, 0)
	if err != nil {
		return nil, fmt.Errorf("read migration status: %w", err)
	}
	defer disconnect(ctx, conn)
	rows, err := history(ctx, conn)
	if err != nil {
		return nil, err
	}
	return statesOf(comps, files, rows), nil
}
