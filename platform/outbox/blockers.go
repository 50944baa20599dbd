package outbox

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Blocker is something that holds up the outbox: events that do not leave, or a table
// that cannot shrink.
type Blocker struct {
	// Kind is paused, no_relay, broker, parked, replay, open_writer or
	// prepared_transaction.
	Kind string `json:"kind"`
	// Holds says what is held up.
	Holds string `json:"holds"`
	Sink  string `json:"sink,omitempty"`
	PID   int32  `json:"pid,omitempty"`
	// Application is the application_name of the session.
	Application string        `json:"application,omitempty"`
	Age         time.Duration `json:"age_ns"`
	Detail      string        `json:"detail"`
	Remedy      string        `json:"remedy"`
}

// writerAge is from when on an open transaction is reported, brokerAge from when on
// events that wait for the broker are.
const (
	writerAge = time.Second
	brokerAge = 5 * time.Second
)

// Blockers says who holds things up, with what to do about it. It takes up to a
// second, or the lease of a relay if that is longer.
func (o *Operator) Blockers(ctx context.Context) ([]Blocker, error) {
	sinks, err := o.watch(ctx)
	if err != nil {
		return nil, err
	}
	var all []Blocker
	for _, s := range sinks {
		if s.Alive && s.PausedAt == nil && (s.PublishedAt == nil || s.quiet > brokerAge) {
			if err := o.unsent(ctx, &s.SinkStatus); err != nil {
				return nil, fmt.Errorf("count unsent events: %w", err)
			}
		}
		all = append(all, s.blockers()...)
	}
	for _, find := range []string{openWritersSQL, preparedSQL} {
		found, err := o.sessions(ctx, find)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (s watched) blockers() (all []Blocker) {
	if s.PausedAt != nil {
		all = append(all, Blocker{
			Kind: "paused", Sink: s.Sink, Holds: "all events of the sink", Age: time.Since(*s.PausedAt),
			Detail: "an operator has paused it", Remedy: "slipway outbox resume --sink " + s.Sink,
		})
	}
	if !s.Alive {
		all = append(all, Blocker{
			Kind: "no_relay", Sink: s.Sink, Holds: "all events of the sink", Detail: "no replica gives a sign of life; the last was " + s.Holder,
			Remedy: "start a service that runs the relay, or forget the sink: slipway outbox remove-sink " + s.Sink,
		})
	}
	if waiting := s.waiting(); waiting > brokerAge {
		all = append(all, Blocker{
			Kind: "broker", Sink: s.Sink, Holds: fmt.Sprintf("%d events", s.Unsent), Age: waiting,
			Detail: "a relay is alive, and the broker takes nothing: it is away or slow",
			Remedy: "mend the broker, events then leave by themselves, in order; the log of " + cmp.Or(s.Holder, "the relay") + " says what it answers",
		})
	}
	if s.ParkedAggregates > 0 {
		all = append(all, Blocker{
			Kind: "parked", Sink: s.Sink, Holds: fmt.Sprintf("%d events of %d aggregates", s.ParkedEvents, s.ParkedAggregates),
			Detail: "the broker did not take the first of them", Remedy: "slipway outbox list --sink " + s.Sink,
		})
	}
	if s.OpenReplays > 0 {
		all = append(all, Blocker{
			Kind: "replay", Sink: s.Sink, Holds: "emptying of old events", Detail: "not finished: replay " + strings.Trim(fmt.Sprint(s.Replays), "[]"),
			Remedy: fmt.Sprintf("wait, or give it up: slipway outbox replay --cancel %d", s.Replays[0]),
		})
	}
	return all
}

// waiting is for how long events have waited while nothing was published, as far as
// they were counted.
func (s watched) waiting() time.Duration {
	if s.Unsent > 0 && s.PublishedAt != nil {
		return min(s.OldestUnsent, s.quiet)
	}
	return s.OldestUnsent
}

const (
	openWritersSQL = `SELECT 'open_writer', pid, application_name, extract(epoch FROM clock_timestamp() - xact_start)::float8,
    format('%s, %s: %s', usename, state, left(query, 80)),
    'its own events are not visible before it commits, and what it has written to cannot be emptied: select pg_terminate_backend(' || pid || ')'
FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()
    AND clock_timestamp() - xact_start > make_interval(secs => $1) ORDER BY xact_start`

	preparedSQL = `SELECT 'prepared_transaction', 0, gid, extract(epoch FROM clock_timestamp() - prepared)::float8, 'prepared by ' || owner,
    format('commit prepared %L, or rollback prepared %L', gid, gid)
FROM pg_prepared_xacts WHERE database = current_database() AND clock_timestamp() - prepared > make_interval(secs => $1) ORDER BY prepared`
)

func (o *Operator) sessions(ctx context.Context, sql string) ([]Blocker, error) {
	rows, err := o.pool.Query(ctx, sql, writerAge.Seconds())
	if err != nil {
		return nil, fmt.Errorf("look for open transactions: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
		var age float64
		err = row.Scan(&b.Kind, &b.PID, &b.Application, &age, &b.Detail, &b.Remedy)
		b.Holds, b.Age = "the events of this transaction only", time.Duration(age*float64(time.Second))
		return b, err
	})
}
