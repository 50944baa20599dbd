package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/failpoint"
)

// path is a way that a checkout goes.
type path struct {
	name, card string
	status     orderv1.OrderStatus
	cancel     bool // the customer changes her mind
}

var paths = []path{
	{name: "confirmed", card: "tok_ok", status: orderv1.OrderStatus_ORDER_STATUS_CONFIRMED},
	{name: "declined", card: "tok_declined", status: orderv1.OrderStatus_ORDER_STATUS_CANCELLED},
	{name: "unclear", card: "tok_timeout", status: orderv1.OrderStatus_ORDER_STATUS_CONFIRMED},
	{name: "cancelled by the customer", card: "tok_slow", status: orderv1.OrderStatus_ORDER_STATUS_CANCELLED, cancel: true},
	{name: "unclear and lost", card: "tok_timeout_lost", status: orderv1.OrderStatus_ORDER_STATUS_CANCELLED},
}

// place is where a process of a service is to die, on which path.
type place struct {
	path

	service, point string
}

// Every process is killed once at every marked place that it comes to on these paths of a checkout: before
// and after its commits, calls, replies, records of a saga, publications and acknowledgements, the first
// time that it comes there. Each time the order ends
// as if nothing had happened, and afterwards money, stock and orders agree to the cent, and there is
// one order for each key. The places are those that a first run of all paths lists, so that one that
// somebody adds is crashed at too.
//
// It fails when a message is acknowledged before its effect is committed, when a position is stored
// before its events are published, when a step that comes again is done again, and when an order is
// placed again for the same key.
func TestCheckout_crashMatrix(t *testing.T) {
	t.Parallel()
	programs := buildToCrash(t)
	seen := t.TempDir()
	shops := make([]*shop, number(t, "SLIPWAY_E2E_SHOPS", 3))
	for i := range shops {
		shops[i] = openShopOf(t, programs, 1, map[string]int64{"TEA-1": 1000}, "SAGA_LEASE=500ms", "OUTBOX_LEASE=500ms", "CHECKOUT_TIMEOUT=10s")
	}
	todo := shops[0].places(t, seen)
	queue := make(chan place, len(todo))
	for _, p := range todo {
		queue <- p
	}
	close(queue)
	for i, s := range shops {
		t.Run(fmt.Sprintf("shop %d", i), func(t *testing.T) {
			t.Parallel()
			for p := range queue {
				began := time.Now()
				s.crashAt(t, p)
				t.Logf("%s at %s, %s: %s", p.service, p.point, p.name, time.Since(began).Round(time.Millisecond))
			}
			s.idle(t)
			n := s.reconcile(t)
			require.Equal(t, s.placed.Load(), n.confirmed+n.cancelled, "one order for each key")
			t.Logf("%d confirmed, %d cancelled, captured %d", n.confirmed, n.cancelled, n.captured)
		})
	}
}

// buildToCrash builds the services with their failpoints.
func buildToCrash(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, service := range []string{"order", "payment", "inventory"} {
		out, err := exec.Command("go", "build", "-tags", "failpoints", "-ldflags", "-s -w", "-o", filepath.Join(dir, service), "../"+service).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	return dir
}

// places goes all paths and returns the places that each service comes to, each with the first path
// on which it does.
func (s *shop) places(t *testing.T, dir string) (all []place) {
	t.Helper()
	for name, g := range s.groups {
		g.replicas[0].kill()
		g.replicas[0].start(t, "FAILPOINTS_SEEN="+filepath.Join(dir, name))
	}
	known, points := map[string]bool{}, map[failpoint.Point]bool{}
	for _, p := range paths {
		s.checkOut(t, p)
		s.idle(t)
		for _, service := range []string{"order", "payment", "inventory"} {
			text, err := os.ReadFile(filepath.Join(dir, service))
			require.NoError(t, err)
			for _, point := range strings.Fields(string(text)) {
				if !known[service+point] {
					known[service+point] = true
					all = append(all, place{p, service, point})
				}
				kind, _, _ := strings.Cut(point, "/")
				points[failpoint.Point(kind)] = true
			}
		}
	}
	for _, p := range []failpoint.Point{
		failpoint.BeforeCommit, failpoint.AfterCommit, failpoint.BeforeRecord, failpoint.AfterRecord, failpoint.AfterClaim,
		failpoint.BeforeCall, failpoint.AfterCall, failpoint.BeforeReply, failpoint.AfterReply, failpoint.BeforePublish,
		failpoint.AfterPublish, failpoint.BeforeStep, failpoint.AfterStep, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		require.True(t, points[p], "no process comes to %s", p)
	}
	t.Logf("%d places", len(all))
	return all
}

// crashAt lets the process of a service die at a place while an order is on its way.
func (s *shop) crashAt(t *testing.T, p place) {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "mark")
	r := s.groups[p.service].replicas[0]
	r.kill()
	r.start(t, "FAILPOINTS="+p.point+"=crash@1", "FAILPOINTS_MARK="+mark)
	armed, revived := r.run, make(chan struct{})
	var supervisor sync.WaitGroup
	supervisor.Go(func() {
		select {
		case <-armed.exited:
			r.start(t)
			close(revived)
		case <-t.Context().Done():
		}
	})
	s.checkOut(t, p.path)
	select {
	case <-revived:
	case <-time.After(patience):
		require.Fail(t, "the place is not reached", "%s of %s", p.point, p.service)
	}
	supervisor.Wait()
	died, err := os.ReadFile(mark)
	require.NoError(t, err)
	require.Equal(t, p.point, string(died))
}

// checkOut places an order, and perhaps cancels it, as a client that repeats what has no answer, and
// waits for its end.
func (s *shop) checkOut(t *testing.T, p path) {
	t.Helper()
	client := s.orders(t)
	var unknown atomic.Int64
	s.placed.Add(1)
	id := s.insist(t, client, wants("key-"+uuid.NewString(), p.card, 1), &unknown)
	for p.cancel {
		_, err := client.CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: id, Reason: "changed my mind"})
		if c := status.Code(err); c == codes.OK || c == codes.FailedPrecondition {
			break
		}
		pause(20 * time.Millisecond)
	}
	order := outcome(t, client, id)
	require.Equal(t, p.status, order.GetStatus(), "%s: %s", p.name, order.GetCancelReason())
}
