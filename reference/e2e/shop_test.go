package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// shop is the whole system: every service with its replicas and its database, and the payment provider.
type shop struct {
	*system

	programs string // folder of those of the services
	ledger   string // file of the provider
	provider *exec.Cmd
	groups   map[string]*group
	initial  map[string]int64 // stock at the beginning
	placed   atomic.Int64     // orders by checkOut, each with a key of its own
}

// group is the replicas of a service behind one address.
type group struct {
	name     string
	database string
	db       *pgxpool.Pool
	env      []string
	front    *balancer
	replicas []*replica
}

// replica is a process that can be killed and started again at its address.
type replica struct {
	program string
	env     []string

	mu   sync.Mutex
	addr string
	run  *service
}

// openShop starts the system with so many replicas of each service, and fills the warehouse.
func openShop(t *testing.T, replicas int, stock map[string]int64) *shop {
	t.Helper()
	return openShopOf(t, binaries, replicas, stock)
}

// openShopOf starts the services from the programs in a folder. env overrides what they are told.
func openShopOf(t *testing.T, programs string, replicas int, stock map[string]int64, env ...string) *shop {
	t.Helper()
	s := &shop{
		system: newSystem(t), programs: programs, groups: map[string]*group{}, initial: stock,
		ledger: filepath.Join(t.TempDir(), "ledger.jsonl"),
	}
	s.startProvider(t)
	s.add(t, "payment", replicas, slices.Concat([]string{"PROVIDER_URL=" + s.providerURL(t), "SETTLE_AFTER=2s"}, env)...)
	s.add(t, "inventory", replicas, env...)
	s.add(t, "order", replicas, slices.Concat([]string{
		"REDIS_URL=redis://" + s.redis.Addr(), "CHECKOUT_TIMEOUT=15s",
		"INVENTORY_TARGET=" + s.groups["inventory"].front.addr(), "PAYMENT_TARGET=" + s.groups["payment"].front.addr(),
	}, env)...)
	client := inventoryv1.NewInventoryServiceClient(dial(t, s.groups["inventory"].front.addr()))
	for sku, n := range stock {
		_, err := client.SetStock(t.Context(), &inventoryv1.SetStockRequest{Sku: sku, OnHand: n}, grpc.WaitForReady(true))
		require.NoError(t, err)
	}
	return s
}

func (s *shop) orders(t *testing.T) orderv1.OrderServiceClient {
	t.Helper()
	return orderv1.NewOrderServiceClient(dial(t, s.groups["order"].front.addr()))
}

// add starts the replicas of a service. The first one makes its tables.
func (s *shop) add(t *testing.T, name string, replicas int, env ...string) {
	t.Helper()
	g := &group{name: name, database: postgrestest.New(t), front: newBalancer(t)}
	g.env = append([]string{
		"ENVIRONMENT=development", "ADMIN_ADDR=127.0.0.1:0", "DATABASE_URL=" + g.database, "BROKER_URL=" + s.broker.url(),
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + s.collector.addr, "LOG_LEVEL=warn",
	}, env...)
	var err error
	g.db, err = postgres.Open(t.Context(), postgres.Config{URL: g.database, MaxConns: 4}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(g.db.Close)
	for range replicas {
		r := &replica{program: filepath.Join(s.programs, name), env: g.env, addr: freeAddr(t)}
		r.start(t)
		r.run.readyAt(t, r.addr)
		g.replicas = append(g.replicas, r)
		g.front.add(r.addr)
	}
	s.groups[name] = g
}

// freeAddr is an address that nobody has, for a process that must have the same one after its death.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (r *replica) start(t *testing.T, env ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run = launchFile(t, r.program, slices.Concat([]string{"GRPC_ADDR=" + r.addr}, r.env, env)...)
}

// kill ends the process like a power cut.
func (r *replica) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.run.cmd.Process.Kill()
	<-r.run.exited
}

func (r *replica) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run.signal(t, s)
}

// startProvider starts the payment provider, on the address that it had before.
func (s *shop) startProvider(t *testing.T) {
	t.Helper()
	s.provider = exec.Command(filepath.Join(binaries, "providersim"), "-addr", freeAddr(t), "-ledger", s.ledger)
	out, err := s.provider.StdoutPipe()
	require.NoError(t, err)
	s.provider.Stderr = os.Stderr
	require.NoError(t, s.provider.Start())
	t.Cleanup(func() {
		_ = s.provider.Process.Kill()
		_ = s.provider.Wait()
	})
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
}

func (s *shop) providerURL(t *testing.T) string {
	t.Helper()
	return "http://" + s.provider.Args[2]
}

// balancer passes connections on to whichever of its backends is there.
type balancer struct {
	listener net.Listener
	next     atomic.Uint64

	mu       sync.Mutex
	backends []string
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &balancer{listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(conn)
		}
	}()
	return b
}

func (b *balancer) addr() string { return b.listener.Addr().String() }

func (b *balancer) add(backend string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = append(b.backends, backend)
}

func (b *balancer) pass(client net.Conn) {
	defer client.Close()
	b.mu.Lock()
	backends := b.backends
	b.mu.Unlock()
	first := int(b.next.Add(1))
	for i := range backends {
		server, err := net.DialTimeout("tcp", backends[(first+i)%len(backends)], time.Second)
		if err != nil {
			continue
		}
		ended := make(chan struct{}, 2)
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1])
				ended <- struct{}{}
			}()
		}
		<-ended // of either way: the other end must hear of it
		_ = server.Close()
		_ = client.Close()
		<-ended
		return
	}
}

// effects are what the provider did for a payment.
type effects struct{ authorized, captured, voided, refunded int64 }

// effects reads the provider's ledger.
func (s *shop) effects(t *testing.T) map[string]effects {
	t.Helper()
	text, err := os.ReadFile(s.ledger)
	require.NoError(t, err)
	all := map[string]effects{}
	for line := range bytes.Lines(text) {
		var e struct {
			Effect, Key string
			Amount      struct{ Minor int64 }
		}
		require.NoError(t, json.Unmarshal(line, &e))
		have := all[e.Key]
		switch e.Effect {
		case "authorized":
			have.authorized += e.Amount.Minor
		case "captured":
			have.captured += e.Amount.Minor
		case "voided":
			have.voided += e.Amount.Minor
		case "refunded":
			have.refunded += e.Amount.Minor
		}
		all[e.Key] = have
	}
	return all
}

// idle waits until nothing is going on any more: no saga, no payment, no event.
func (s *shop) idle(t *testing.T) {
	t.Helper()
	still := func(service, sql string) string {
		var n int
		if err := s.groups[service].db.QueryRow(t.Context(), sql).Scan(&n); err != nil || n > 0 {
			return fmt.Sprintf("%s: %d of %q (%v)", service, n, sql, err)
		}
		return ""
	}
	var going string
	require.Eventually(t, func() bool {
		for _, c := range [][2]string{
			{"order", "SELECT count(*) FROM slipway.saga"},
			{"order", "SELECT count(*) FROM orders WHERE status = 'PENDING'"},
			{"order", "SELECT count(*) FROM slipway.outbox e, slipway.outbox_position p WHERE NOT pg_visible_in_snapshot(e.xid, p.snapshot)"},
			{"payment", "SELECT count(*) FROM payments WHERE look_at IS NOT NULL AND status LIKE '%ING'"},
			{"payment", "SELECT count(*) FROM payments WHERE status = 'AUTHORIZED'"},
			{"inventory", "SELECT count(*) FROM stock WHERE reserved > 0"},
		} {
			if going = still(c[0], c[1]); going != "" {
				return false
			}
		}
		return true
	}, 2*patience, 50*time.Millisecond, "%s", &lazy{&going})
}

// lazy is a text as it is when it is printed.
type lazy struct{ text *string }

func (l *lazy) String() string { return *l.text }

// tally is what reconcile has counted.
type tally struct{ confirmed, cancelled, captured int64 }

// reconcile holds every order against the payments, the provider's ledger and the warehouse.
func (s *shop) reconcile(t *testing.T) (n tally) {
	t.Helper()
	ctx := t.Context()
	type payment struct {
		id, status string
		minor      int64
	}
	payments, reservations := map[uuid.UUID]payment{}, map[uuid.UUID]string{}
	each(ctx, t, s.groups["payment"].db, "SELECT id::text, order_id, status, amount_minor FROM payments", func(scan func(...any)) {
		var p payment
		var order uuid.UUID
		scan(&p.id, &order, &p.status, &p.minor)
		payments[order] = p
	})
	each(ctx, t, s.groups["inventory"].db, "SELECT order_id, status FROM reservations", func(scan func(...any)) {
		var order uuid.UUID
		var status string
		scan(&order, &status)
		reservations[order] = status
	})
	done := s.effects(t)
	sold := map[string]int64{}
	each(ctx, t, s.groups["order"].db, "SELECT id, status, total_minor FROM orders", func(scan func(...any)) {
		var id uuid.UUID
		var status string
		var total int64
		scan(&id, &status, &total)
		p, e := payments[id], done[payments[id].id]
		switch status {
		case "CONFIRMED":
			n.confirmed++
			n.captured += total
			require.Equal(t, "CAPTURED", p.status, id)
			require.Equal(t, effects{authorized: total, captured: total}, e, id)
			require.Equal(t, "COMMITTED", reservations[id], id)
		case "CANCELLED":
			n.cancelled++
			require.Contains(t, []string{"", "DECLINED", "VOIDED", "REFUNDED"}, p.status, id)
			require.Equal(t, e.authorized, e.voided+e.refunded, "what was held is let go: %s %+v", id, e)
			require.Equal(t, e.captured, e.refunded, id)
			require.Contains(t, []string{"", "RELEASED"}, reservations[id], id)
		default:
			require.Failf(t, "an order is not over", "%s %s", id, status)
		}
	})
	each(ctx, t, s.groups["order"].db, `SELECT i.sku, sum(i.quantity)::bigint FROM order_items i JOIN orders o ON o.id = i.order_id
		WHERE o.status = 'CONFIRMED' GROUP BY 1`, func(scan func(...any)) {
		var sku string
		var quantity int64
		scan(&sku, &quantity)
		sold[sku] = quantity
	})
	each(ctx, t, s.groups["inventory"].db, "SELECT sku, on_hand, reserved, committed FROM stock", func(scan func(...any)) {
		var sku string
		var onHand, reserved, committed int64
		scan(&sku, &onHand, &reserved, &committed)
		require.Zero(t, reserved, sku)
		require.Equal(t, s.initial[sku], onHand+committed, sku)
		require.Equal(t, sold[sku], committed, sku)
	})
	return n
}

// each reads rows.
func each(ctx context.Context, t *testing.T, db *pgxpool.Pool, sql string, row func(scan func(...any))) {
	t.Helper()
	rows, err := db.Query(ctx, sql)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		row(func(into ...any) { require.NoError(t, rows.Scan(into...)) })
	}
	require.NoError(t, rows.Err())
}
