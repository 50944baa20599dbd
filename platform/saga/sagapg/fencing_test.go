package sagapg

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga"
)

// enlist returns a term of a worker that runs nothing by itself.
func enlist(t *testing.T) (*term, *pgxpool.Pool) {
	t.Helper()
	db, err := pgxpool.New(t.Context(), postgrestest.New(t, Migrations()))
	require.NoError(t, err)
	t.Cleanup(db.Close)
	plan := saga.Plan{Name: "trip", Version: 1, StuckAfter: time.Hour, Stages: []saga.PlanStage{{Steps: []saga.PlanStep{{Name: "flight", Kind: saga.KindStep}}}}}
	r := &Runner{db: db, plans: []*definition{{plan: plan}}, logger: zap.NewNop(), cfg: Config{Lease: time.Minute}}
	r.metrics, err = newMetrics(nil, r)
	require.NoError(t, err)
	require.NoError(t, r.register(t.Context()))
	w, err := join(t.Context(), db, r.cfg, &clock{}, r.ids, r.logger)
	require.NoError(t, err)
	term := newTerm(r, w)
	t.Cleanup(func() {
		term.claims.close(t.Context())
	})
	return term, db
}

// keep has the journal store records, for the same time each time, and returns whose were kept.
func keep(t *testing.T, term *term, again bool, records ...*record) map[claim]bool {
	t.Helper()
	w := term.journal.writer()
	defer w.link.close(t.Context())
	require.NoError(t, w.store(t.Context(), records, time.Date(2026, 3, 14, 15, 9, 26, 535_897_932, time.UTC), again))
	return w.kept
}

func owned(t *testing.T, db *pgxpool.Pool, owner, token int64) uuid.UUID {
	t.Helper()
	id := uuid.New()
	_, err := db.Exec(t.Context(), `INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, owner, token)
		VALUES ($1, 1, '{}', '{}', now(), now() - interval '1 hour', $2, $3)`, id, owner, token)
	require.NoError(t, err)
	return id
}

// After an operator's action a process may have two runs of a saga, and the records of both in one
// commit. Only that of the valid claim is kept. Told apart by the saga alone, the other run would go on.
func TestJournal_tellsClaimsApart(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	id := owned(t, db, term.worker.id, 2)
	stale := &record{id: id, token: 1, instance: saga.Instance{Problem: "stale"}}
	valid := &record{id: id, token: 2, instance: saga.Instance{Problem: "valid"}}
	kept := keep(t, term, false, stale, valid)
	require.Equal(t, map[claim]bool{{id, 2}: true}, kept)

	over := &record{id: id, token: 2, finished: true, instance: saga.Instance{Status: saga.Completed}}
	staleEnd := &record{id: id, token: 1, finished: true, instance: saga.Instance{Status: saga.Compensated}}
	kept = keep(t, term, false, staleEnd, over)
	require.Equal(t, map[claim]bool{{id, 2}: true}, kept)
	var status saga.Status
	require.NoError(t, db.QueryRow(t.Context(), "SELECT status FROM slipway.saga_finished WHERE id = $1", id).Scan(&status))
	require.Equal(t, saga.Completed, status)

	twice := uuid.New()
	launch := func(token int64) *record {
		return &record{id: twice, token: token, data: []byte("{}"), launched: &launched{definition: 1, headers: "{}", at: time.Now()}}
	}
	kept = keep(t, term, false, launch(3), launch(4))
	require.Len(t, kept, 1, "one of two that start the same saga at once")
}

// A signal is taken only by a record that is kept. Taken by any record, the handler of a run that an
// operator has taken the saga from took the signal with it, and the saga that still waits was undone
// because nothing came.
func TestJournal_takesSignalsWithWhatIsKept(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	id := owned(t, db, term.worker.id, 2)
	send := func() (signal int64) {
		err := db.QueryRow(t.Context(), "INSERT INTO slipway.saga_signal (saga_id, name, payload) VALUES ($1, 'paid', '') RETURNING id", id).Scan(&signal)
		require.NoError(t, err)
		return signal
	}
	left := func() (ids []int64) {
		rows, err := db.Query(t.Context(), "SELECT id FROM slipway.saga_signal ORDER BY id")
		require.NoError(t, err)
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(t, err)
		return ids
	}
	first, second := send(), send()
	keep(t, term, false, &record{id: id, token: 1, took: first})
	require.Equal(t, []int64{first, second}, left(), "a stale run takes none")
	keep(t, term, false, &record{id: id, token: 2}, &record{id: id, token: 1, took: second})
	require.Equal(t, []int64{first, second}, left(), "nor does it beside the valid one")
	keep(t, term, false, &record{id: id, token: 2, took: first})
	require.Equal(t, []int64{second}, left())

	over := saga.Instance{Status: saga.Completed}
	keep(t, term, false, &record{id: id, token: 1, finished: true, instance: over})
	require.Equal(t, []int64{second}, left())
	keep(t, term, false, &record{id: id, token: 2, finished: true, instance: over})
	require.Empty(t, left(), "those that come too late go with the saga")
}

// What left this worker by a commit whose answer was lost is stored again, and is kept: it was refused, and
// counted as what another process had taken over. Its attempts are in the journal once.
func TestJournal_storesAgain(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(r *record){
		"progress": func(*record) {},
		"released": func(r *record) { r.release, r.next = true, time.Now() },
		"finished": func(r *record) { r.finished, r.instance.Status = true, saga.Completed },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term, db := enlist(t)
			id := owned(t, db, term.worker.id, 7)
			step := func(token int64) *record {
				r := &record{id: id, token: token, attempts: []attempt{{at: time.Unix(1_800_000_000, 42_000), step: "hotel"}}}
				change(r)
				return r
			}
			for _, again := range []bool{false, true, true} {
				require.Equal(t, map[claim]bool{{id, 7}: true}, keep(t, term, again, step(7)))
			}
			if name != "finished" { // only the id is kept of one that is over, and the time
				require.Empty(t, keep(t, term, true, step(8)), "of another claim")
			}
			var lines int
			require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM slipway.saga_journal WHERE saga_id = $1", id).Scan(&lines))
			require.Equal(t, 1, lines)
		})
	}
}

// Where a batch that is stored again cannot be, each of its records is stored again by itself: for the same
// time, or what was stored before would be refused.
func TestJournal_storesAgainAlone(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	w := term.journal.writer()
	defer w.link.close(t.Context())
	at := time.Now()
	finished := func(problem string) *record {
		return &record{
			id: owned(t, db, term.worker.id, 7), token: 7, finished: true, stored: make(chan error, 1),
			instance: saga.Instance{Status: saga.Completed, Problem: problem},
		}
	}
	there, impossible := finished(""), finished("\x00")
	require.NoError(t, w.store(t.Context(), []*record{there}, at, false))
	w.persist(t.Context(), []*record{there, impossible}, at, true)
	require.NoError(t, <-there.stored)
	err := <-impossible.stored
	require.Error(t, err)
	require.NotErrorIs(t, err, errRefused)
}

// A launch of which nobody knows whether it was stored is stored again, and is one. Without looking it
// up it was refused, and what it had stored ran minutes later.
func TestJournal_launchesOnce(t *testing.T) {
	t.Parallel()
	term, _ := enlist(t)
	id := uuid.New()
	launch := func(token int64) *record {
		return &record{id: id, token: token, data: []byte("{}"), launched: &launched{definition: 1, headers: "{}", at: time.Now()}}
	}
	for _, again := range []bool{false, true} {
		require.Equal(t, map[claim]bool{{id, 7}: true}, keep(t, term, again, launch(7)))
	}
	require.Empty(t, keep(t, term, true, launch(8)), "another one with that id")
}

// Sagas of a worker that nobody knows any more are freed. Only a worker that was frozen for minutes, and
// forgotten meanwhile, can leave such; without looking for them nobody ever took them.
func TestRunner_freesSagasOfForgottenWorkers(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	lost, mine := owned(t, db, term.worker.id+1000, 1), owned(t, db, term.worker.id, 2)
	require.NoError(t, term.r.upkeep(t.Context()))
	var free []uuid.UUID
	rows, err := db.Query(t.Context(), "SELECT id FROM slipway.saga WHERE owner IS NULL AND claims = 1 AND next_run_at IS NOT NULL")
	require.NoError(t, err)
	free, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{lost}, free)
	require.NotEqual(t, lost, mine)
}

// A worker that was taken for dead, and does not know yet, claims nothing.
func TestTerm_claimsNothingWhenEnded(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	exec := func(sql string) {
		_, err := db.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec(`INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, next_run_at)
		VALUES (gen_random_uuid(), 1, '{}', '{}', now(), now(), now() - interval '1 hour')`)
	exec("UPDATE slipway.saga_worker SET ended_at = now()")
	claimed, err := term.claim(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, claimed)
	exec("UPDATE slipway.saga_worker SET ended_at = NULL")
	claimed, err = term.claim(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, claimed, 1)
}

// What a run has left that could not store its results: they are lost, and must not be forgotten. One look
// is not enough: a saga that has rested for long was freed while it was on its way from the claim to its
// run, and counted as lost.
func TestTerm_reclaim(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	left, runs := owned(t, db, term.worker.id, 1), owned(t, db, term.worker.id, 2)
	again, begins := owned(t, db, term.worker.id, 3), owned(t, db, term.worker.id, 4)
	term.running[runs] = 1
	require.NoError(t, term.reclaim(t.Context()))
	found, err := term.claim(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, found, "after one look")

	_, err = db.Exec(t.Context(), "UPDATE slipway.saga SET token = 5 WHERE id = $1", again) // it has been claimed anew
	require.NoError(t, err)
	term.running[begins] = 1
	require.NoError(t, term.reclaim(t.Context()))
	require.Eventually(t, func() bool { // the clock of the worker is a little behind that of the database
		found, err = term.claim(t.Context(), 10)
		return err == nil && len(found) > 0
	}, time.Minute, time.Millisecond)
	require.Len(t, found, 1)
	require.Equal(t, left, found[0].id)
	require.Equal(t, 1, found[0].lost)
}

// A saga that comes back before its former run has ended is not forgotten.
func TestTerm_adoptsWhatRunsStill(t *testing.T) {
	t.Parallel()
	term, _ := enlist(t)
	began, release := make(chan int64, 2), make(chan struct{})
	term.run = func(c *claimed) {
		began <- c.token
		<-release
	}
	id := uuid.New()
	for token := range int64(2) {
		term.adopt(&claimed{id: id, token: token})
		require.Equal(t, token, <-began)
	}
	release <- struct{}{}
	require.Eventually(t, func() bool {
		term.mu.Lock()
		defer term.mu.Unlock()
		return term.running[id] == 1
	}, time.Minute, time.Millisecond)
	release <- struct{}{}
	term.runs.Wait()
	require.Zero(t, term.count())
}

// A process that stood still, as a machine does that is suspended, takes the time from those who lived on.
// Taking the difference for a jump of the database's clock, it put the time of all sagas back.
func TestWorker_stoodStill(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	cfg := Config{Lease: 200 * time.Millisecond}
	adjustment := func() (text string) {
		require.NoError(t, db.QueryRow(t.Context(), "SELECT adjust::text FROM slipway.saga_clock").Scan(&text))
		return text
	}
	late := &clock{time: time.Now().Add(-time.Hour), at: time.Now(), adjust: adjustment()}
	w, err := join(t.Context(), db, cfg, late, []int32{}, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(func() { w.link.close(t.Context()) })
	require.False(t, w.ready(), "it does not know what time it is")
	require.Eventually(t, func() bool {
		require.NoError(t, term.worker.beat(t.Context()))
		require.NoError(t, w.beat(t.Context()))
		return w.timely.Load()
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, "00:00:00", adjustment())
	require.WithinDuration(t, term.worker.clock.now(), w.clock.now(), jumpTolerance)

	t.Run("alone it takes the jump out", func(t *testing.T) {
		require.NoError(t, term.worker.leave(t.Context()))
		require.NoError(t, w.leave(t.Context()))
		early := &clock{time: time.Now().Add(time.Hour), at: time.Now(), adjust: adjustment()}
		w, err := join(t.Context(), db, cfg, early, []int32{}, zap.NewNop())
		require.NoError(t, err)
		t.Cleanup(func() { w.link.close(t.Context()) })
		require.Eventually(t, func() bool {
			require.NoError(t, w.beat(t.Context()))
			return w.timely.Load()
		}, time.Minute, 10*time.Millisecond)
		require.NotEqual(t, "00:00:00", adjustment())
		require.WithinDuration(t, time.Now().Add(time.Hour), w.clock.now(), jumpTolerance)
	})
}
