package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// wants is a request for tea, paid with the card.
func wants(key, card string, quantity int32) *orderv1.PlaceOrderRequest {
	req := request(key)
	req.CardToken = card
	req.Items[0].Quantity = quantity
	return req
}

// outcome waits until an order is over.
func outcome(t *testing.T, client orderv1.OrderServiceClient, id string) *orderv1.Order {
	t.Helper()
	var order *orderv1.Order
	require.Eventually(t, func() bool {
		resp, err := client.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: id})
		order = resp.GetOrder()
		return err == nil && order.GetStatus() != orderv1.OrderStatus_ORDER_STATUS_PENDING
	}, patience, 20*time.Millisecond)
	return order
}

// Every way that a checkout can go ends in one of two ways, and money and stock agree with it.
func TestCheckout_everyPath(t *testing.T) {
	t.Parallel()
	s := openShop(t, 2, map[string]int64{"TEA-1": 900})
	client := s.orders(t)
	place := func(card string, quantity int32) string {
		resp, err := client.PlaceOrder(t.Context(), wants("key-"+card+strconv.Itoa(int(quantity)), card, quantity))
		require.NoError(t, err)
		require.Equal(t, orderv1.OrderStatus_ORDER_STATUS_PENDING, resp.GetOrder().GetStatus())
		return resp.GetOrder().GetId()
	}
	confirmed, cancelled := orderv1.OrderStatus_ORDER_STATUS_CONFIRMED, orderv1.OrderStatus_ORDER_STATUS_CANCELLED
	type path struct {
		id, reason string
		status     orderv1.OrderStatus
	}
	var paths []path
	for _, p := range []struct {
		card     string
		quantity int32
		status   orderv1.OrderStatus
		reason   string
	}{
		{"tok_ok", 2, confirmed, ""},
		{"tok_ok", 1000, cancelled, "out of stock"},
		{"tok_declined", 1, cancelled, "payment declined"},
		{"tok_insufficient_funds", 1, cancelled, "payment declined"},
		{"tok_flaky", 3, confirmed, ""},                                        // errors first
		{"tok_slow", 4, confirmed, ""},                                         // an answer that takes its time
		{"tok_timeout", 5, confirmed, ""},                                      // no answer, but the money is held
		{"tok_timeout_lost", 6, cancelled, "the order could not be completed"}, // no answer, and nothing is held
		{"tok_error", 7, cancelled, "the order could not be completed"},
		{"tok_late", 8, 0, ""}, // held after it was given up, or in time: either is right
	} {
		paths = append(paths, path{place(p.card, p.quantity), p.reason, p.status})
	}
	for i, p := range paths {
		order := outcome(t, client, p.id)
		if p.status != 0 {
			require.Equal(t, p.status, order.GetStatus(), "path %d: %s", i, order.GetCancelReason())
			require.Contains(t, order.GetCancelReason(), p.reason, i)
		}
	}
	s.idle(t)
	n := s.reconcile(t)
	require.GreaterOrEqual(t, n.confirmed, int64(4))
	t.Logf("%d confirmed, %d cancelled, captured %d", n.confirmed, n.cancelled, n.captured)
}

// A customer who cancels while the checkout is on its way gets what was asked for, or is told that it is
// too late.
func TestCheckout_cancelledOnItsWay(t *testing.T) {
	t.Parallel()
	s := openShop(t, 1, map[string]int64{"TEA-1": 1000})
	client := s.orders(t)
	var tooLate, inTime int
	for i := range 30 {
		resp, err := client.PlaceOrder(t.Context(), wants(fmt.Sprintf("key-%06d", i), "tok_ok", 1))
		require.NoError(t, err)
		id := resp.GetOrder().GetId()
		if i%2 == 0 { // a moment later
			_, _ = client.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: id})
		}
		_, err = client.CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: id, Reason: "changed my mind"})
		switch status.Code(err) {
		case codes.OK:
			inTime++
			require.Equal(t, "changed my mind", outcome(t, client, id).GetCancelReason())
		case codes.FailedPrecondition:
			tooLate++
			require.Equal(t, orderv1.OrderStatus_ORDER_STATUS_CONFIRMED, outcome(t, client, id).GetStatus())
		default:
			require.NoError(t, err)
		}
	}
	s.idle(t)
	n := s.reconcile(t)
	require.EqualValues(t, inTime, n.cancelled)
	require.EqualValues(t, tooLate, n.confirmed)
	require.Positive(t, inTime)
}

// number reads how much of something a run is to do.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return otherwise
	}
	return n
}

// Orders are placed while processes of every service are killed at random, and paused for longer than
// their leases: none is lost, none has an effect twice, and a call whose outcome the client does not
// know is answered the same way when it is repeated with its key. SLIPWAY_E2E_ORDERS says how many
// orders, SLIPWAY_E2E_KILL_EVERY how often.
func TestCheckout_survivesKills(t *testing.T) {
	t.Parallel()
	n := number(t, "SLIPWAY_E2E_ORDERS", 300)
	every := time.Duration(number(t, "SLIPWAY_E2E_KILL_EVERY", 400)) * time.Millisecond
	s := openShop(t, 2, map[string]int64{"TEA-1": int64(n)}) // sold out before the end
	cards := []string{"tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_flaky"}

	stop, killer := make(chan struct{}), sync.WaitGroup{}
	var kills, pauses atomic.Int64
	killer.Go(func() { s.strike(t, every, stop, &kills, &pauses) })
	var customers sync.WaitGroup
	var unknown atomic.Int64
	ids := make([]string, n)
	for c := range 8 {
		customers.Go(func() {
			client := s.orders(t)
			for i := c; i < n; i += 8 {
				req := wants(fmt.Sprintf("key-%06d", i), cards[i%len(cards)], int32(1+i%3))
				ids[i] = s.insist(t, client, req, &unknown)
				pause(50 * time.Millisecond)
			}
		})
	}
	customers.Wait()
	close(stop)
	killer.Wait()

	seen := map[string]bool{}
	client := s.orders(t)
	for i, id := range ids {
		require.NotEmpty(t, id, i)
		require.False(t, seen[id], "two orders for one key")
		seen[id] = true
		var dummy atomic.Int64
		if i%10 == 0 {
			require.Equal(t, id, s.insist(t, client, wants(fmt.Sprintf("key-%06d", i), cards[i%len(cards)], int32(1+i%3)), &dummy))
		}
	}
	s.idle(t)
	got := s.reconcile(t)
	require.EqualValues(t, n, got.confirmed+got.cancelled, "no order is lost")
	require.Positive(t, got.confirmed)
	require.Positive(t, got.cancelled)
	require.Positive(t, kills.Load())
	require.Positive(t, pauses.Load())
	t.Logf("%d orders: %d confirmed, %d cancelled; %d kills, %d pauses, %d calls without an answer; captured %d",
		n, got.confirmed, got.cancelled, kills.Load(), pauses.Load(), unknown.Load(), got.captured)
}

// insist places an order until there is an answer, as a client with a key may.
func (s *shop) insist(t *testing.T, client orderv1.OrderServiceClient, req *orderv1.PlaceOrderRequest, unknown *atomic.Int64) string {
	t.Helper()
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		resp, err := client.PlaceOrder(ctx, req)
		cancel()
		switch status.Code(err) {
		case codes.OK:
			return resp.GetOrder().GetId()
		case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.Canceled:
			unknown.Add(1)
			pause(20 * time.Millisecond)
		default:
			assert.Fail(t, "refused", "%v", err)
			return ""
		}
	}
	assert.Fail(t, "no answer")
	return ""
}

// pause is between two attempts of a client, not a wait for something.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// strike kills a process again and again, and stops each fifth for longer than its lease.
func (s *shop) strike(t *testing.T, every time.Duration, stop <-chan struct{}, kills, pauses *atomic.Int64) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	names := []string{"order", "payment", "inventory"}
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
		g := s.groups[names[random.IntN(len(names))]]
		victim := g.replicas[random.IntN(len(g.replicas))]
		if n%5 == 2 {
			victim.signal(t, syscall.SIGSTOP)
			pause(2500 * time.Millisecond)
			victim.signal(t, syscall.SIGCONT)
			pauses.Add(1)
			continue
		}
		victim.kill()
		victim.start(t)
		kills.Add(1)
	}
}

// The shopper, which sees no more than a customer and the services' own APIs, finds money and stock in
// order although processes of every service are killed while it shops, and says the same as the databases.
func TestShopper_auditsTheWholeSystem(t *testing.T) {
	t.Parallel()
	const orders = 150
	s := openShop(t, 2, nil)
	shopper := exec.Command(filepath.Join(binaries, "shopper"), "--addr", s.groups["order"].front.addr(),
		"--payment", s.groups["payment"].front.addr(), "--inventory", s.groups["inventory"].front.addr(),
		"--orders", strconv.Itoa(orders), "--rate", "20", "--unclear", "0.05", "--wait", "90s", "--retries", "30", "--output", "json")
	var out, stderr bytes.Buffer
	shopper.Stdout, shopper.Stderr = &out, &stderr
	require.NoError(t, shopper.Start())
	done := make(chan error, 1)
	go func() { done <- shopper.Wait() }()
	t.Cleanup(func() { _ = shopper.Process.Kill() })
	giveUp := func(why string) { // its output is whole once it has ended
		_ = shopper.Process.Kill()
		err := <-done
		require.Fail(t, why, "%v\n%s", err, &stderr)
	}

	count := func(service, query string) (n int) {
		require.NoError(t, s.groups[service].db.QueryRow(t.Context(), query).Scan(&n))
		return n
	}
	stop, killer := make(chan struct{}), sync.WaitGroup{}
	var kills, pauses atomic.Int64
	killer.Go(func() { s.strike(t, time.Second, stop, &kills, &pauses) })
	placed := assert.Eventually(t, func() bool { return count("order", "SELECT count(*) FROM orders") == orders },
		3*patience, 50*time.Millisecond)
	close(stop)
	killer.Wait()
	if !placed {
		giveUp("the shopper makes no progress")
	}
	require.Positive(t, kills.Load())
	select {
	case err := <-done:
		require.NoError(t, err, "%s\n%s", &out, &stderr)
	case <-time.After(5 * patience):
		giveUp("the shopper does not end")
	}
	var summary struct {
		States     map[string]int
		Invariants []struct{ N int }
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &summary))
	require.Len(t, summary.Invariants, 8)
	for _, i := range summary.Invariants {
		require.Positive(t, i.N)
	}
	require.Equal(t, summary.States["CONFIRMED"], count("payment", "SELECT count(*) FROM payments WHERE status = 'CAPTURED'"))
	require.Equal(t, orders, summary.States["CONFIRMED"]+summary.States["CANCELLED"])
	t.Logf("%v, %d kills, %d pauses", summary.States, kills.Load(), pauses.Load())
}
