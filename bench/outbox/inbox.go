package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

const (
	inboxConsumer = "bench"
	inboxClients  = 8
	// inboxDays is for how many days ids are kept: there is a partition for each, and
	// one for today.
	inboxDays = 7
	// inboxDrops is how many partitions go at most. Duplicates are those of days that
	// stay.
	inboxDrops = 3
	// inboxRepeat is how many messages there are to a duplicate.
	inboxRepeat = 10
)

// memory is an inbox that remembers so many ids, and what each round has shown of it.
type memory struct {
	rows     int
	database *lab.Database
	pool     *pgxpool.Pool
	known    []string // ids of yesterday and of the day before

	rates                       []float64 // transactions a second
	freshP50, freshP99, dupeP99 []float64 // milliseconds in Once
}

// call is one of Once.
type call struct {
	began time.Time
	took  time.Duration
	known bool
}

func runInbox(ctx context.Context, b *bench) (err error) {
	large := pick(b.options, b.rows, 50_000_000, 200_000)
	runs := pick(b.options, b.runs, 5, 1)
	n := pick(b.options, 0, 20_000, 2000)
	small := &memory{rows: max(large/50, 1000)}
	both := []*memory{small, {rows: large}}
	for _, m := range both {
		if err := m.open(ctx, b.server); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.close(ctx)) }()
	}
	for _, m := range both { // what is asked for the first time comes from the disk
		if _, err := m.load(ctx, n/4); err != nil {
			return err
		}
	}
	for run := range runs {
		for i := range both {
			m := both[(run+i)%2]
			if err := b.server.Checkpoint(ctx); err != nil {
				return err
			}
			if err := m.round(ctx, n); err != nil {
				return err
			}
			logf("  run %d: %d rows, %.0f transactions/s, new ids p50 %.3f ms, p99 %.3f ms, known ids p99 %.3f ms",
				run+1, m.rows, m.rates[run], m.freshP50[run], m.freshP99[run], m.dupeP99[run])
		}
	}
	d, err := both[1].forget(ctx, n, min(runs, inboxDrops))
	if err != nil {
		return err
	}
	b.print(inboxLine(small, both[1], d, runs))
	return nil
}

// open makes the tables and fills them.
func (m *memory) open(ctx context.Context, server *lab.Server) (err error) {
	if m.database, err = server.Create(ctx); err != nil {
		return err
	}
	if _, err := migrate.Up(ctx, m.database.URL, inbox.Migrations()); err != nil {
		return fmt.Errorf("make tables of the inbox: %w", err)
	}
	if m.pool, err = m.database.Pool(ctx, inboxClients+2); err != nil {
		return err
	}
	if err := inbox.Maintain(ctx, m.pool, inboxDays*24*time.Hour); err != nil {
		return err
	}
	begin := time.Now()
	if err := m.fill(ctx); err != nil {
		return err
	}
	var size int64
	err = m.pool.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&size)
	logf("  filled %d rows in %s: %d MB", m.rows, time.Since(begin).Round(time.Second), size>>20)
	return err
}

func (m *memory) close(ctx context.Context) error {
	if m.pool != nil {
		m.pool.Close()
	}
	return m.database.Drop(context.WithoutCancel(ctx))
}

// fill stores the same number of ids for each day, spread over it in their order.
func (m *memory) fill(ctx context.Context) error {
	const piece = 500_000
	now := time.Now().UTC()
	midnight := now.Truncate(24 * time.Hour)
	for ago := inboxDays; ago >= 0; ago-- {
		day := midnight.AddDate(0, 0, -ago)
		end := day.Add(24 * time.Hour)
		if end.After(now) {
			end = now
		}
		rows := m.rows / (inboxDays + 1)
		for from := 0; from < rows; from += piece {
			_, err := m.pool.Exec(ctx, fmt.Sprintf(`INSERT INTO slipway.inbox_d%s (consumer, day, message_id)
				SELECT '%s', '%s', (lpad(to_hex(%d + i * %d / %d), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid
				FROM generate_series(%d::bigint, %d) AS i, md5(i::text) AS h`, day.Format("20060102"), inboxConsumer, day.Format(time.DateOnly),
				day.UnixMilli(), end.Sub(day).Milliseconds(), rows, from, min(from+piece, rows)-1))
			if err != nil {
				return fmt.Errorf("fill inbox: %w", err)
			}
		}
		if ago == 1 || ago == 2 {
			if err := m.remember(ctx, day); err != nil {
				return err
			}
		}
	}
	return lab.Exec(ctx, m.database.URL, "VACUUM ANALYZE slipway.inbox")
}

// remember draws ids of a day.
func (m *memory) remember(ctx context.Context, day time.Time) error {
	share := min(100, 100*100_000/float64(m.rows/(inboxDays+1))) // percent
	rows, err := m.pool.Query(ctx, fmt.Sprintf("SELECT message_id::text FROM slipway.inbox_d%s TABLESAMPLE SYSTEM (%f) ORDER BY random() LIMIT 2000",
		day.Format("20060102"), share))
	if err != nil {
		return fmt.Errorf("draw known ids: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	m.known = append(m.known, ids...)
	if err == nil && len(ids) == 0 {
		err = errors.New("draw known ids: there are none")
	}
	return err
}

// load has clients run n transactions, each with a new id but for some that are known.
func (m *memory) load(ctx context.Context, n int) ([]call, error) {
	var todo atomic.Int64
	calls, errs := make([]call, n), make([]error, inboxClients)
	var all sync.WaitGroup
	for c := range errs {
		all.Go(func() {
			for i := todo.Add(1) - 1; i < int64(n) && errs[c] == nil; i = todo.Add(1) - 1 {
				calls[i], errs[c] = m.once(ctx, int(i))
			}
		})
	}
	all.Wait()
	return calls, errors.Join(errs...)
}

// once runs a transaction that does nothing but remember an id.
func (m *memory) once(ctx context.Context, i int) (c call, err error) {
	id := uuid.Must(uuid.NewV7()).String()
	if c.known = i%inboxRepeat == 0; c.known {
		id = m.known[i/inboxRepeat%len(m.known)]
	}
	err = pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
		c.began = time.Now()
		fresh, err := inbox.Once(ctx, tx, inboxConsumer, id, func() error { return nil })
		c.took = time.Since(c.began)
		if err == nil && fresh == c.known {
			err = fmt.Errorf("the id %s was taken for new: %t", id, fresh)
		}
		return err
	})
	return c, err
}

// round measures once.
func (m *memory) round(ctx context.Context, n int) error {
	begin := time.Now()
	calls, err := m.load(ctx, n)
	if err != nil {
		return err
	}
	m.rates = append(m.rates, float64(n)/time.Since(begin).Seconds())
	fresh := took(calls, func(c call) bool { return !c.known })
	m.freshP50 = append(m.freshP50, millis(figure.Percentile(fresh, 50)))
	m.freshP99 = append(m.freshP99, millis(figure.Percentile(fresh, 99)))
	m.dupeP99 = append(m.dupeP99, millis(figure.Percentile(took(calls, func(c call) bool { return c.known }), 99)))
	return nil
}

// took returns how long those of the calls took.
func took(calls []call, which func(call) bool) (all []time.Duration) {
	for _, c := range calls {
		if which(c) {
			all = append(all, c.took)
		}
	}
	return all
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// dropped is what was seen while partitions were dropped under load.
type dropped struct {
	partitions int
	rows       int // of one
	longest    time.Duration
	// during are the calls of Once that met it, beside those before and after.
	during, beside []time.Duration
}

// forget lets the retention end for one day after the other while the load goes on.
func (m *memory) forget(ctx context.Context, n, days int) (d dropped, err error) {
	d.partitions, d.rows = days, m.rows/(inboxDays+1)
	for day := range days {
		begin, end, calls, err := m.forgetDay(ctx, n, time.Duration(inboxDays-1-day)*24*time.Hour)
		if err != nil {
			return d, err
		}
		meets := func(c call) bool { return c.began.Before(end) && c.began.Add(c.took).After(begin) }
		d.longest = max(d.longest, end.Sub(begin))
		d.during = append(d.during, took(calls, meets)...)
		d.beside = append(d.beside, took(calls, func(c call) bool { return !meets(c) })...)
		logf("  dropped a partition of %d rows in %s", d.rows, end.Sub(begin).Round(time.Millisecond))
	}
	return d, m.gone(ctx, days)
}

// forgetDay maintains the inbox when a quarter of the load has been.
func (m *memory) forgetDay(ctx context.Context, n int, retention time.Duration) (begin, end time.Time, calls []call, err error) {
	if calls, err = m.load(ctx, n/4); err != nil {
		return begin, end, nil, err
	}
	maintained := make(chan error, 1)
	go func() {
		begin = time.Now()
		err := inbox.Maintain(ctx, m.pool, retention)
		end = time.Now()
		maintained <- err
	}()
	more, err := m.load(ctx, n)
	return begin, end, slices.Concat(calls, more), errors.Join(err, <-maintained)
}

// gone makes sure that it was not something else that was measured.
func (m *memory) gone(ctx context.Context, days int) error {
	var left int
	err := m.pool.QueryRow(ctx, `SELECT count(*) FROM pg_class WHERE relname ~ '^inbox_d\d{8}$' AND relkind = 'r'
		AND pg_relation_size(oid) > 0 AND to_date(substr(relname, 8), 'YYYYMMDD') < (clock_timestamp() AT TIME ZONE 'UTC')::date - $1::int`, inboxDays-days).Scan(&left)
	if err == nil && left > 0 {
		err = fmt.Errorf("%d partitions that should be gone have rows", left)
	}
	return err
}

// inboxLine compares the two by the ratios of their rounds.
func inboxLine(small, large *memory, d dropped, runs int) *figure.Line {
	line := figure.NewLine("B13")
	for _, m := range []struct {
		key string
		*memory
	}{{"small", small}, {"large", large}} {
		line.Int(m.key+"_rows", m.rows).Rate(m.key+"_transactions_s", figure.Median(m.rates)).
			Ratio(m.key+"_new_p50_ms", figure.Median(m.freshP50)).Ratio(m.key+"_new_p99_ms", figure.Median(m.freshP99)).
			Ratio(m.key+"_known_p99_ms", figure.Median(m.dupeP99))
	}
	return line.Ratio("rate_ratio", figure.PairedRatio(large.rates, small.rates)).
		Ratio("new_p50_ratio", figure.PairedRatio(large.freshP50, small.freshP50)).
		Ratio("new_p99_ratio", figure.PairedRatio(large.freshP99, small.freshP99)).
		Ratio("known_p99_ratio", figure.PairedRatio(large.dupeP99, small.dupeP99)).
		Int("dropped", d.partitions).Int("dropped_rows", d.rows).Millis("dropped_longest_ms", d.longest).Int("dropped_calls", len(d.during)).
		Ratio("dropped_during_p99_ms", millis(figure.Percentile(d.during, 99))).Ratio("dropped_beside_p99_ms", millis(figure.Percentile(d.beside, 99))).
		Int("runs", runs)
}
