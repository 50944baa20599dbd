package sagapg

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipwayhq/slipway/platform/saga"
)

// Reasons for which a saga counts as stuck.
const (
	StuckRetrying           = "retrying"            // its step fails for longer than it may
	StuckNoWorker           = "no_worker"           // no living process has its definition
	StuckCompensationFailed = "compensation_failed" // it cannot be undone without an operator
	StuckNeedsOperator      = "needs_operator"      // it cannot go on without one
	StuckOverdue            = "overdue"             // nobody takes it, or who has it does not get on
	StuckLeaseChurn         = "lease_churn"         // process after process is lost over it
)

var stuckReasons = []string{
	StuckRetrying, StuckNoWorker, StuckCompensationFailed, StuckNeedsOperator, StuckOverdue, StuckLeaseChurn,
}

// states are those of sagas that are not over.
var states = []saga.Status{saga.Running, saga.Compensating, saga.NeedsOperator}

// grace is how long a saga may be overdue before it counts as stuck.
const grace = "interval '30 seconds'"

// stuckSQL finds the sagas that are stuck, and why, by indexes that hold few others. It is
// the one truth for metrics, operators and alerts.
const stuckSQL = `stuck AS (
    SELECT s.id, s.definition, CASE WHEN s.backward THEN '` + StuckCompensationFailed + `' ELSE '` + StuckNeedsOperator + `' END AS why
    FROM slipway.saga s WHERE s.status = 2
UNION ALL
    SELECT s.id, s.definition, CASE WHEN ` + unmanned + ` THEN '` + StuckNoWorker + `' ELSE '` + StuckRetrying + `' END
    FROM slipway.saga_definition d JOIN slipway.saga s ON s.definition = d.id
    WHERE s.failing_since < ` + now + ` - d.stuck_after AND s.status <> 2
UNION ALL
    SELECT s.id, s.definition, CASE WHEN ` + unmanned + ` THEN '` + StuckNoWorker + `' ELSE '` + StuckOverdue + `' END
    FROM slipway.saga_definition d JOIN slipway.saga s ON s.definition = d.id
    WHERE s.next_run_at < ` + now + ` - ` + grace + ` AND (s.failing_since IS NULL OR s.failing_since >= ` + now + ` - d.stuck_after)
UNION ALL
    SELECT s.id, s.definition, CASE WHEN ` + unmanned + ` THEN '` + StuckNoWorker + `' WHEN s.claims > 3 THEN '` + StuckLeaseChurn + `'
        ELSE '` + StuckOverdue + `' END
    FROM slipway.saga_definition d JOIN slipway.saga s ON s.definition = d.id
    WHERE s.owner IS NOT NULL AND s.updated_at < ` + now + ` - greatest(d.stuck_after, ` + grace + `)
        AND (s.failing_since IS NULL OR s.failing_since >= ` + now + ` - d.stuck_after) AND s.status <> 2
)`

const (
	// alive says that a worker has given a sign of life lately. When the last process of all
	// was killed, there is nobody who would say that it has ended.
	alive = "w.seen_at > clock_timestamp() - interval '1 minute'"
	// unmanned says that no living worker has the definition.
	unmanned = "NOT EXISTS (SELECT FROM slipway.saga_worker w WHERE w.ended_at IS NULL AND " + alive + " AND s.definition = ANY (w.definitions))"
)

// stats collects what is true of all sagas, whichever process runs them. Answers are kept
// for a while: every replica is asked.
type stats struct {
	r         *Runner
	stuck     *prometheus.Desc
	byReason  *prometheus.Desc
	instances *prometheus.Desc
	oldest    *prometheus.Desc

	mu      sync.Mutex
	at      time.Time     // of the latest answer
	good    time.Duration // for so long it is good enough
	latest  reading
	pending chan struct{} // closed when the database has answered; nil when it is not asked
}

// reading is one answer of the database.
type reading struct {
	stuck     map[[2]string]float64 // saga, reason
	instances map[[2]string]float64 // saga, state
	oldest    map[string]float64
}

const (
	// statsAge is for how long an answer is good enough, and statsCost how many times as long as
	// the database took for it: with a million sagas a look at all of them is not for nothing.
	statsAge  = 5 * time.Second
	statsCost = 50
	// statsOld is for how long an answer is good enough at most.
	statsOld = time.Minute
	// statsTimeout is how long the database may take for one.
	statsTimeout = 20 * time.Second
	// statsKept is for how long an answer that is not good enough is shown while there is no
	// better one.
	statsKept = 25 * time.Second
	// statsPatience is how long a scrape waits for an answer. A database that hangs must not
	// take all other metrics away with it.
	statsPatience = 500 * time.Millisecond
)

func newStats(r *Runner) *stats {
	return &stats{
		r: r,
		stuck: prometheus.NewDesc("saga_stuck_total", "Sagas that do not get on.",
			[]string{"saga"}, nil),
		byReason: prometheus.NewDesc("saga_stuck_by_reason", "Sagas that do not get on, by the reason.",
			[]string{"saga", "reason"}, nil),
		instances: prometheus.NewDesc("saga_instances", "Sagas that are not over, by their state.",
			[]string{"saga", "state"}, nil),
		oldest: prometheus.NewDesc("saga_oldest_active_seconds", "Age of the oldest saga that is not over; 0 without one.",
			[]string{"saga"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *stats) Describe(ch chan<- *prometheus.Desc) {
	ch <- s.stuck
	ch <- s.byReason
	ch <- s.instances
	ch <- s.oldest
}

// Collect implements prometheus.Collector. When the database stays away there are no values:
// old ones would look like healthy ones.
func (s *stats) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.at) > s.good {
		s.refresh()
	}
	if time.Since(s.at) > s.good+statsKept {
		return
	}
	for _, name := range s.names() {
		total := 0.0
		for _, why := range stuckReasons {
			n := s.latest.stuck[[2]string{name, why}]
			total += n
			ch <- prometheus.MustNewConstMetric(s.byReason, prometheus.GaugeValue, n, name, why)
		}
		ch <- prometheus.MustNewConstMetric(s.stuck, prometheus.GaugeValue, total, name)
		for _, state := range states {
			ch <- prometheus.MustNewConstMetric(s.instances, prometheus.GaugeValue, s.latest.instances[[2]string{name, state.String()}],
				name, state.String())
		}
		ch <- prometheus.MustNewConstMetric(s.oldest, prometheus.GaugeValue, s.latest.oldest[name], name)
	}
}

// refresh asks the database, or joins who asks it already, and waits for the answer with mu
// released.
func (s *stats) refresh() {
	if s.pending == nil {
		done := make(chan struct{})
		s.pending = done
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
			defer cancel()
			asked := time.Now()
			latest, err := s.read(ctx)
			s.mu.Lock()
			defer s.mu.Unlock()
			if err == nil {
				s.at, s.latest = time.Now(), latest
				s.good = min(max(statsAge, statsCost*s.at.Sub(asked)), statsOld)
			}
			s.pending = nil
			close(done)
		}()
	}
	pending := s.pending
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-pending:
	case <-time.After(statsPatience):
	}
}

// names are of the sagas that are known here or in the database.
func (s *stats) names() []string {
	known, names := map[string]bool{}, []string{}
	add := func(name string) {
		if !known[name] {
			known[name], names = true, append(names, name)
		}
	}
	for _, d := range s.r.plans {
		add(d.plan.Name)
	}
	for name := range s.latest.oldest {
		add(name)
	}
	return names
}

const (
	stuckCounts    = "WITH " + stuckSQL + " SELECT d.name, why, count(*) FROM stuck JOIN slipway.saga_definition d ON d.id = stuck.definition GROUP BY 1, 2"
	instanceCounts = `SELECT d.name, s.status, count(*), greatest(0, extract(epoch FROM ` + now + ` - min(s.created_at)))
FROM slipway.saga s JOIN slipway.saga_definition d ON d.id = s.definition GROUP BY 1, 2`
)

func (s *stats) read(ctx context.Context) (reading, error) {
	v := reading{stuck: map[[2]string]float64{}, instances: map[[2]string]float64{}, oldest: map[string]float64{}}
	var name, why string
	var n, age float64
	var status saga.Status
	var b pgx.Batch
	b.Queue(stuckCounts).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&name, &why, &n}, func() error {
			v.stuck[[2]string{name, why}] = n
			return nil
		})
		return err
	})
	b.Queue(instanceCounts).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&name, &status, &n, &age}, func() error {
			v.instances[[2]string{name, status.String()}] = n
			v.oldest[name] = max(v.oldest[name], age)
			return nil
		})
		return err
	})
	return v, s.r.db.SendBatch(ctx, &b).Close()
}
