package outbox

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the tables of the outbox, in the schema slipway.
func Migrations() migrate.Component { return component(migrations, "migrations") }

func component(files embed.FS, folder string) migrate.Component {
	dir, err := fs.Sub(files, folder)
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	return migrate.Component{Name: "outbox", FS: dir}
}

// insert reads the child that takes new events in the same statement. ORDER BY
// makes the ids follow the order of the arrays.
const insert = `INSERT INTO slipway.outbox (slot, lane, event_id, aggregate_type, aggregate_id, aggregate_version,
    event_type, event_version, payload, headers)
SELECT (SELECT slot FROM slipway.outbox_rotation WHERE current), e.lane, e.event_id, e.aggregate_type, e.aggregate_id,
    e.aggregate_version, e.event_type, e.event_version, e.payload, e.headers
FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::int[], $8::bytea[], $9::text[])
    WITH ORDINALITY AS e (lane, event_id, aggregate_type, aggregate_id, aggregate_version,
        event_type, event_version, payload, headers, n)
ORDER BY e.n`

// Add stores the events with one statement in the caller's transaction. They are
// published if and only if that commits: a rollback, also one to a savepoint,
// leaves nothing of them. Without events it does nothing.
//
// Call it once, as the last statement before the commit: the shorter an event's
// transaction goes on, the sooner the event can be read. The package comment says
// under which condition events keep their order.
//
// The trace context and baggage of ctx and the correlation id go into the headers
// traceparent, tracestate, baggage and correlation_id, except where an event sets
// its own. Invalid events are ErrInvalid, with all that is wrong named, and none
// is stored. After any other error the transaction must be rolled back.
func Add(ctx context.Context, tx pgx.Tx, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := validate(events); err != nil {
		return err
	}
	rows, err := columnsOf(ctx, events)
	if err != nil {
		return fmt.Errorf("prepare outbox events: %w", err)
	}
	_, err = tx.Exec(ctx, insert, rows.lane, rows.id, rows.aggregateType, rows.aggregateID, rows.aggregateVersion,
		rows.eventType, rows.eventVersion, rows.payload, rows.headers)
	if err != nil {
		return fmt.Errorf("insert outbox events: %w", err)
	}
	return nil
}

func validate(events []Event) error {
	var errs []error
	for i, e := range events {
		if err := e.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%w %d (%s): %w", ErrInvalid, i, e.Type, err))
		}
	}
	return errors.Join(errs...)
}

// columns are the events as the statement takes them.
type columns struct {
	lane             []int16
	id               [][16]byte
	aggregateType    []string
	aggregateID      []string
	aggregateVersion []int64
	eventType        []string
	eventVersion     []int32
	payload          [][]byte
	headers          []string
}

func columnsOf(ctx context.Context, events []Event) (columns, error) {
	n := len(events)
	c := columns{
		lane: make([]int16, n), id: make([][16]byte, n), aggregateType: make([]string, n), aggregateID: make([]string, n),
		aggregateVersion: make([]int64, n), eventType: make([]string, n), eventVersion: make([]int32, n),
		payload: make([][]byte, n), headers: make([]string, n),
	}
	shared := broker.Inject(ctx, nil)
	sharedText, err := encode(shared)
	if err != nil {
		return columns{}, err
	}
	for i, e := range events {
		id, err := identity(e)
		if err != nil {
			return columns{}, err
		}
		text := sharedText
		if len(e.Headers) > 0 {
			if text, err = encode(merge(shared, e.Headers)); err != nil {
				return columns{}, err
			}
		}
		c.lane[i], c.id[i], c.headers[i] = Lane(e.AggregateType, e.AggregateID), id, text
		c.aggregateType[i], c.aggregateID[i], c.aggregateVersion[i] = e.AggregateType, e.AggregateID, e.AggregateVersion
		c.eventType[i], c.eventVersion[i] = e.Type, int32(e.Version)
		if c.payload[i] = e.Payload; e.Payload == nil {
			c.payload[i] = []byte{} // nil would be NULL
		}
	}
	return c, nil
}

func identity(e Event) (uuid.UUID, error) {
	if e.ID != uuid.Nil {
		return e.ID, nil
	}
	return uuid.NewV7()
}

func merge(shared, own map[string]string) map[string]string {
	all := maps.Clone(shared)
	maps.Copy(all, own)
	return all
}

func encode(headers map[string]string) (string, error) {
	text, err := json.Marshal(headers)
	return string(text), err
}
