package sagacmd_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/commandtest"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// rig is a database with sagas, a service that runs them until it is stopped, and the
// command line that operates on them.
type rig struct {
	*commandtest.Rig

	stop func()

	mu     sync.Mutex
	faults map[string]error
	gates  map[string]chan struct{}
	calls  map[string]int
}

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		Rig: commandtest.New(t, "saga", sagapg.Migrations()), faults: map[string]error{}, gates: map[string]chan struct{}{}, calls: map[string]int{},
	}
	return r
}

// serve runs the sagas of the definitions.
func (r *rig) serve(definitions ...sagapg.Definition) {
	r.T.Helper()
	runner, err := sagapg.NewRunner(r.Pool, definitions, sagapg.Config{
		Name: "order-1", Poll: 20 * time.Millisecond, Hold: 20 * time.Millisecond, Lease: 2 * time.Second,
	}, nil, nil, nil)
	require.NoError(r.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(r.T, <-ended)
	})
	r.T.Cleanup(r.stop)
}

// order is the state of a checkout.
type order struct {
	Amount int    `json:"amount"`
	City   string `json:"city"`
}

var errDown = errors.New("the provider\nis \x1b[31mdown")

func (r *rig) fault(step string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[step] = err
}

// gate holds up the calls of a step from now on.
func (r *rig) gate(step string) (open func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := make(chan struct{})
	r.gates[step] = g
	return sync.OnceFunc(func() { close(g) })
}

func (r *rig) count(step string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[step]
}

func (r *rig) step(name string) saga.Func[order] {
	return func(ctx context.Context, _ *saga.Call[order]) error {
		r.mu.Lock()
		r.calls[name]++
		err, gate := r.faults[name], r.gates[name]
		r.mu.Unlock()
		if gate != nil {
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
		return err
	}
}

var twice = saga.Policy{MaxAttempts: 2, Initial: time.Millisecond}

func (r *rig) checkout() *saga.Definition[order] {
	return saga.Define("checkout", 1,
		saga.Undo("cancel-order", r.step("cancel-order")),
		saga.Step("reserve-stock", r.step("reserve-stock")).Undo("release-stock", r.step("release-stock")).Retry(twice).UndoRetry(twice),
		saga.Pivot("confirm-order", r.step("confirm-order")).Retry(twice))
}

func (r *rig) approval() *saga.Definition[order] {
	return saga.Define("approval", 2,
		saga.Wait("approve", time.Hour, func(_ context.Context, c *saga.Call[order]) error {
			c.State.City = string(c.Signal)
			return nil
		}),
		saga.Pivot("ship", r.step("ship")).Retry(twice))
}

// begin starts a saga and returns its id.
func (r *rig) begin(d *saga.Definition[order]) string {
	r.T.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	require.NoError(r.T, postgres.InTx(r.T.Context(), r.Pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		_, err := sagapg.Start(r.T.Context(), tx, nil, d, id, order{Amount: 7, City: "Ulm"})
		return err
	}))
	return id
}

// stuck returns the id of a checkout whose undo cannot be done.
func (r *rig) stuck() string {
	r.T.Helper()
	r.fault("confirm-order", saga.Rejected(errDown))
	r.fault("release-stock", errDown)
	id := r.begin(r.checkout())
	r.becomes(id, "needs_operator")
	return id
}

// waiting returns the id of an approval that waits.
func (r *rig) waiting() string {
	r.T.Helper()
	id := r.begin(r.approval())
	r.Eventually(func() bool { return r.show(id).WaitsFor == "approve" })
	return id
}

// becomes waits until a saga is in the status.
func (r *rig) becomes(id, status string) {
	r.T.Helper()
	r.Eventually(func() bool { return r.show(id).Status == status })
}

func (r *rig) show(id string) sagapg.Detail { return decoded[sagapg.Detail](r, "show", id) }

// decoded runs a command that must succeed and reads its JSON.
func decoded[T any](r *rig, args ...string) T {
	r.T.Helper()
	return commandtest.Decoded[T](r.Rig, args...)
}
