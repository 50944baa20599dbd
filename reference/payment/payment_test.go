package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

// amount is what every payment of these tests is about, in cents.
const amount = 700

// flow is what a checkout does with its payment: authorize, and then the end that it came to.
type flow struct {
	order, key string
	card, end  string
}

// The ends of a flow. Each needs an authorization but "void".
var ends = []string{"event", "capture", "refund", "void", "leave"}

var cards = []string{
	"tok_ok", "tok_ok", "tok_declined", "tok_insufficient_funds", "tok_error", "tok_flaky", "tok_slow", "tok_timeout", "tok_timeout_lost", "tok_late",
}

func newFlow(card, end string) flow {
	order := uuid.NewString()
	return flow{order: order, key: "checkout-" + order + "/authorize-payment", card: card, end: end}
}

// run goes through the flow as a saga does: a call without an answer is repeated, and an authorization
// that does not come about is voided. pick returns any replica. It returns the state that the payment
// must end in.
func (f flow) run(ctx context.Context, s *system, pick func() *replica) (want string, err error) {
	err = repeat(ctx, 4, func(ctx context.Context) error {
		_, err := pick().Authorize(ctx, &paymentv1.AuthorizeRequest{
			IdempotencyKey: f.key, OrderId: f.order, CardToken: f.card,
			Amount: &paymentv1.Money{CurrencyCode: "EUR", MinorUnits: amount},
		})
		return err
	})
	switch {
	case status.Code(err) == codes.FailedPrecondition && strings.Contains(err.Error(), "declined"):
		return "DECLINED", nil
	case err != nil && status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded:
		return "", err
	case err != nil || f.end == "void":
		return "VOIDED", repeat(ctx, 200, func(ctx context.Context) error {
			_, err := pick().Void(ctx, &paymentv1.VoidRequest{IdempotencyKey: f.key, OrderId: f.order})
			return err
		})
	}
	switch f.end {
	case "leave":
		return "AUTHORIZED", nil
	case "event":
		return "CAPTURED", s.confirm(ctx, f.order)
	}
	err = repeat(ctx, 200, func(ctx context.Context) error {
		_, err := pick().Capture(ctx, &paymentv1.CaptureRequest{OrderId: f.order})
		return err
	})
	if f.end == "capture" || err != nil {
		return "CAPTURED", err
	}
	return "REFUNDED", repeat(ctx, 200, func(ctx context.Context) error {
		_, err := pick().Refund(ctx, &paymentv1.RefundRequest{OrderId: f.order, Reason: "changed my mind"})
		return err
	})
}

// repeat calls until there is an answer.
func repeat(ctx context.Context, attempts int, call func(context.Context) error) (err error) {
	for range attempts {
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		err = call(bounded)
		cancel()
		if c := status.Code(err); c != codes.Unavailable && c != codes.DeadlineExceeded && c != codes.Aborted {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return err
}

// reconcile compares what the flows were told with the payments and with the provider's ledger.
func (s *system) reconcile(wants map[string]string) {
	s.Helper()
	agrees := map[string][]string{
		"DECLINED":   {"declined"},
		"AUTHORIZED": {"authorized"},
		"VOIDED":     {"", "declined", "authorized voided"},
		"CAPTURED":   {"authorized captured"},
		"REFUNDED":   {"authorized captured refunded"},
	}
	payments := s.settled()
	ledger := s.ledger()
	ended := map[string]int{}
	paid, captured := 0, 0
	for _, p := range payments {
		require.Equal(s, wants[p.OrderID], p.Status, "%+v", p)
		effects := strings.Join(ledger[p.ID], " ")
		require.Contains(s, agrees[p.Status], effects, "%+v", p)
		if p.Status == "CAPTURED" {
			paid += amount
		}
		if strings.HasSuffix(effects, "captured") {
			captured += amount
		}
		ended[p.Status+": "+effects]++
		delete(ledger, p.ID)
		delete(wants, p.OrderID)
	}
	require.Empty(s, ledger, "the provider has charges that nobody knows")
	for order, want := range wants { // A void may come before there is a payment.
		require.Equal(s, "VOIDED", want, order)
	}
	require.Equal(s, captured, paid)
	s.Logf("%d cents captured here and there; ended as %v", paid, ended)
}

func (s *system) faults(json string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodPut, s.provider+"/admin/faults", strings.NewReader(json))
	require.NoError(s, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	require.Equal(s, http.StatusOK, resp.StatusCode)
}

func TestPayment_everyCardAndEnd(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.faults(`{"slow": "200ms", "late": "4s"}`)
	r := s.start()
	var mu sync.Mutex
	wants := map[string]string{}
	var running sync.WaitGroup
	for _, card := range slices.Compact(slices.Sorted(slices.Values(cards))) {
		for _, end := range ends {
			running.Go(func() {
				f := newFlow(card, end)
				want, err := f.run(t.Context(), s, func() *replica { return r })
				if err != nil {
					want = fmt.Sprintf("%s with %s: %v", end, card, err)
				}
				mu.Lock()
				defer mu.Unlock()
				wants[f.order] = want
			})
		}
	}
	running.Wait()
	s.reconcile(wants)
	require.Contains(t, r.log(), "succeeded after it was voided", "tok_late")
	require.NotContains(t, r.log(), "tok_")
	require.NotContains(t, r.log(), `"level":"error"`)
}

// TestPayment_survivesKills kills replicas with -9 at random times while the provider loses requests and
// answers, and then compares all that anybody knows of the money.
func TestPayment_survivesKills(t *testing.T) {
	t.Parallel()
	const replicas, workers, kills = 2, 8, 12
	s := newSystem(t)
	s.faults(`{"latency": "5ms", "error_rate": 0.05, "lost_reply_rate": 0.05, "slow": "200ms", "late": "2s"}`)
	var fleet [replicas]atomic.Pointer[replica]
	for i := range fleet {
		fleet[i].Store(s.start())
	}
	pick := func() *replica { return fleet[rand.N(replicas)].Load() }

	var mu sync.Mutex
	wants := map[string]string{}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f := newFlow(cards[rand.N(len(cards))], ends[rand.N(len(ends))])
				want, err := f.run(t.Context(), s, pick)
				if err != nil {
					want = fmt.Sprintf("%s with %s: %v", f.end, f.card, err)
				}
				mu.Lock()
				wants[f.order] = want
				mu.Unlock()
			}
		})
	}
	for range kills {
		<-time.After(rand.N(700 * time.Millisecond))
		i := rand.N(replicas)
		fleet[i].Load().kill()
		fleet[i].Store(s.start())
	}
	close(stop)
	running.Wait()
	t.Logf("%d kills, %d flows", kills, len(wants))
	s.faults(`{}`)
	s.reconcile(wants)
}

func TestPayment_ownProvider(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ledger := t.TempDir() + "/ledger.jsonl"
	r := s.start("PROVIDER_URL=", "PROVIDER_LEDGER="+ledger)
	f := newFlow("tok_ok", "leave")
	want, err := f.run(t.Context(), s, func() *replica { return r })
	require.NoError(t, err)
	require.Equal(t, "AUTHORIZED", want)
	second := start(t, binaries+"/payment", []string{
		"DATABASE_URL=" + s.database, "BROKER_URL=" + s.broker, "GRPC_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "PROVIDER_LEDGER=" + ledger,
	})
	<-second.exited
	require.Equal(t, 1, second.cmd.ProcessState.ExitCode())
	require.Contains(t, second.log(), "PROVIDER_URL is not set")
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	<-r.exited
	require.Zero(t, r.cmd.ProcessState.ExitCode())
	again := s.start("PROVIDER_URL=", "PROVIDER_LEDGER="+ledger)
	f.end = "capture"
	want, err = f.run(t.Context(), s, func() *replica { return again })
	require.NoError(t, err)
	require.Equal(t, "CAPTURED", want, "the provider remembers")
}
