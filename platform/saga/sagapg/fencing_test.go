package sagapg

import (
	"testing"
	"time"

	"github.com/google/uuid"
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
	w, err := join(t.Context(), db, r.cfg, r.ids, r.logger)
	require.NoError(t, err)
	term := newTerm(r, w)
	t.Cleanup(func() {
		term.claims.close(t.Context())
		term.journal.link.close(t.Context())
	})
	return term, db
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
	kept, err := term.journal.store(t.Context(), []*record{stale, valid})
	require.NoError(t, err)
	require.Equal(t, map[claim]bool{{id, 2}: true}, kept)

	over := &record{id: id, token: 2, finished: true, instance: saga.Instance{Status: saga.Completed}}
	staleEnd := &record{id: id, token: 1, finished: true, instance: saga.Instance{Status: saga.Compensated}}
	kept, err = term.journal.store(t.Context(), []*record{staleEnd, over})
	require.NoError(t, err)
	require.Equal(t, map[claim]bool{{id, 2}: true}, kept)
	var status saga.Status
	require.NoError(t, db.QueryRow(t.Context(), "SELECT status FROM slipway.saga_finished WHERE id = $1", id).Scan(&status))
	require.Equal(t, saga.Completed, status)

	twice := uuid.New()
	launch := func(token int64) *record {
		return &record{id: twice, token: token, data: []byte("{}"), launched: &launched{definition: 1, headers: "{}", at: time.Now()}}
	}
	kept, err = term.journal.store(t.Context(), []*record{launch(3), launch(4)})
	require.NoError(t, err)
	require.Len(t, kept, 1, "one of two that start the same saga at once")
}

// What a run has left that could not store its results: they are lost, and must not be forgotten.
func TestTerm_reclaim(t *testing.T) {
	t.Parallel()
	term, db := enlist(t)
	left, runs := owned(t, db, term.worker.id, 1), owned(t, db, term.worker.id, 2)
	term.running[runs] = 1
	require.NoError(t, term.reclaim(t.Context()))
	var found []*claimed
	require.Eventually(t, func() bool { // the clock of the worker is a little behind that of the database
		var err error
		found, err = term.claim(t.Context(), 10)
		return err == nil && len(found) == 1
	}, time.Minute, time.Millisecond)
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
