package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/reference/payment/providersim"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slipway-payment-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	for name, pkg := range map[string]string{"payment": ".", "providersim": "./cmd/providersim"} {
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), pkg)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	return postgrestest.Closing(m).Run()
}

// system is what the replicas of one test share.
type system struct {
	*testing.T
	database string
	db       *pgxpool.Pool
	broker   string
	events   broker.Publisher
	provider string
}

func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{T: t, database: postgrestest.New(t), broker: startBroker(t)}
	var err error
	s.db, err = postgres.Open(t.Context(), postgres.Config{URL: s.database}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(s.db.Close)
	conn, err := nats.Connect(nats.Config{URL: s.broker, Name: "test"}, nil)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	s.events, err = nats.NewPublisher(conn, nats.PublisherConfig{Stream: nats.Stream{Name: "order", Subjects: []string{"order.>"}}}, nil)
	require.NoError(t, err)
	sim := start(t, filepath.Join(binaries, "providersim"), nil, "--addr", "127.0.0.1:0", "--ledger", filepath.Join(t.TempDir(), "ledger.jsonl"))
	s.provider = strings.Fields(sim.line(t, "payment provider on"))[3]
	return s
}

func startBroker(t *testing.T) (url string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	require.NoError(t, err)
	go s.Start()
	require.True(t, s.ReadyForConnections(patience))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.ClientURL()
}

// process is one that was started, and what it says.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu   sync.Mutex
	text strings.Builder
}

func start(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.cmd.Stderr = p.cmd.Stdout
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			p.text.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(program), p.log())
		}
	})
	return p
}

// kill ends it with -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// line waits for a line with that text in it.
func (p *process) line(t *testing.T, text string) (found string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for line := range strings.Lines(p.log()) {
			if strings.Contains(line, text) {
				found = line
				return true
			}
		}
		return false
	}, patience, 10*time.Millisecond, "no line with %q", text)
	return found
}

// replica is a running payment service.
type replica struct {
	*process
	paymentv1.PaymentServiceClient
	conn *grpc.ClientConn
}

// start starts a replica and waits until it serves. env overrides the defaults.
func (s *system) start(env ...string) *replica {
	s.Helper()
	p := start(s.T, filepath.Join(binaries, "payment"), append([]string{
		"ENVIRONMENT=development", "GRPC_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0",
		"DATABASE_URL=" + s.database, "BROKER_URL=" + s.broker, "PROVIDER_URL=" + s.provider,
		"PROVIDER_TIMEOUT=1s", "SETTLE_AFTER=2s", "SETTLE_PAUSE=1500ms", "SETTLE_LONGEST_PAUSE=3s", "SETTLE_WATCH=15s", "SETTLE_POLL=200ms",
	}, env...))
	var serving struct{ Addr string }
	require.NoError(s, json.Unmarshal([]byte(p.line(s.T, `"serving gRPC"`)), &serving))
	conn, err := grpc.NewClient(serving.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(s, err)
	s.Cleanup(func() { _ = conn.Close() })
	return &replica{p, paymentv1.NewPaymentServiceClient(conn), conn}
}

// confirm publishes that an order is confirmed, twice, as a broker may deliver it.
func (s *system) confirm(ctx context.Context, orderID string) error {
	payload, err := proto.Marshal(&orderv1.OrderConfirmed{
		OrderId: orderID, OrderVersion: 2, Total: &orderv1.Money{CurrencyCode: "EUR", MinorUnits: amount},
	})
	if err != nil {
		return err
	}
	id := uuid.Must(uuid.NewV7()).String()
	for n := range 2 {
		m := broker.Message{
			ID: id, DedupID: fmt.Sprintf("%s-%d", id, n), Subject: "order.confirmed", Key: "order/" + orderID,
			Headers: map[string]string{broker.HeaderEventVersion: "1"}, Payload: payload,
		}
		if err := s.events.Publish(ctx, []broker.Message{m}); err != nil {
			return err
		}
	}
	return nil
}

// ledger returns the effects that the provider has written down, by payment, in order.
func (s *system) ledger() map[string][]string {
	s.Helper()
	resp, err := http.Get(s.provider + "/ledger")
	require.NoError(s, err)
	defer resp.Body.Close()
	all := map[string][]string{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var e providersim.Entry
		require.NoError(s, json.Unmarshal(lines.Bytes(), &e))
		require.Equal(s, providersim.Amount{Currency: "EUR", Minor: amount}, e.Amount)
		all[e.Key] = append(all[e.Key], string(e.Effect))
	}
	return all
}

// row is a payment in the database.
type row struct {
	ID, OrderID, Status string
	InDoubt             bool
}

func (s *system) rows() []row {
	s.Helper()
	rows, err := s.db.Query(s.Context(), "SELECT id::text, order_id::text, status, in_doubt_since IS NOT NULL FROM payments ORDER BY id")
	require.NoError(s, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(s, err)
	return all
}

// settled waits until no payment waits for anything.
func (s *system) settled() []row {
	s.Helper()
	require.Eventually(s, func() bool {
		var open int
		err := s.db.QueryRow(s.Context(), "SELECT count(*) FROM payments WHERE look_at IS NOT NULL").Scan(&open)
		return err == nil && open == 0
	}, patience, 100*time.Millisecond, "payments stay unsettled")
	return s.rows()
}
