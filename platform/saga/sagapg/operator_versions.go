package sagapg

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/saga"
)

// Version is a definition of a saga with what runs by it.
type Version struct {
	Name    string `json:"saga"`
	Version int    `json:"version"`
	// Steps are their names in order, those of a parallel group in brackets.
	Steps         string `json:"steps"`
	Running       int64  `json:"running"`
	Compensating  int64  `json:"compensating"`
	NeedsOperator int64  `json:"needs_operator"`
	// Oldest is when the oldest of them was started.
	Oldest *time.Time `json:"oldest,omitempty"`
	// Workers are the processes that have it, as far as nobody has taken them for dead.
	Workers []Worker `json:"workers"`
	// NoWorker tells that sagas of it are in flight and no worker that is alive has it: deploy
	// the program that does, beside the new one if there is one.
	NoWorker bool `json:"no_worker"`
}

// InFlight is how many sagas are not over.
func (v Version) InFlight() int64 { return v.Running + v.Compensating + v.NeedsOperator }

// Worker is a process that runs sagas.
type Worker struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	// SeenAt is when it last gave a sign of life.
	SeenAt time.Time `json:"seen_at"`
	// Alive tells that it did so within the last minute.
	Alive bool `json:"alive"`
}

const (
	selectVersions = `SELECT d.id, d.name, d.version, d.plan, count(s.id) FILTER (WHERE s.status = 0), count(s.id) FILTER (WHERE s.status = 1),
    count(s.id) FILTER (WHERE s.status = 2), min(s.created_at) - (SELECT adjust FROM slipway.saga_clock)
FROM slipway.saga_definition d LEFT JOIN slipway.saga s ON s.definition = d.id GROUP BY d.id ORDER BY d.name, d.version`

	selectWorkers = `SELECT k.definition, w.id, w.name, w.seen_at, ` + alive + `
FROM slipway.saga_worker w, unnest(w.definitions) k (definition)
WHERE w.ended_at IS NULL ORDER BY w.id`
)

// Versions returns every version of every saga that the database knows.
func (o *Operator) Versions(ctx context.Context) ([]Version, error) {
	workers := map[int32][]Worker{}
	versions := []Version{}
	var v Version
	var w Worker
	var id int32
	var plan string
	var b pgx.Batch
	b.Queue(selectWorkers).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&id, &w.ID, &w.Name, &w.SeenAt, &w.Alive}, func() error {
			workers[id] = append(workers[id], w)
			return nil
		})
		return err
	})
	b.Queue(selectVersions).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&id, &v.Name, &v.Version, &plan, &v.Running, &v.Compensating, &v.NeedsOperator, &v.Oldest}, func() error {
			var p saga.Plan
			if err := decodePlan(plan, &p); err != nil {
				return err
			}
			v.Steps, v.Workers = p.String(), append([]Worker{}, workers[id]...)
			v.NoWorker = v.InFlight() > 0 && !slices.ContainsFunc(v.Workers, func(w Worker) bool { return w.Alive })
			versions = append(versions, v)
			return nil
		})
		return err
	})
	if err := o.db.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("read versions of sagas: %w", missing(err))
	}
	return versions, nil
}
