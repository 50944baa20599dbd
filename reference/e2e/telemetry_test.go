package e2e_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// The orders of TestTelemetry, by what the collector must do with their traces.
const (
	plainOrders    = 150 // a tenth of their traces is kept
	declinedOrders = 8   // the calls that fail are all kept
	slowOrders     = 3   // all kept: they wait for a lock
)

// slowness is how long a slow order waits at least: longer than the collector's policy asks for.
const slowness = 1300 * time.Millisecond

// TestTelemetry follows requests through the running system and finds them again: every service by every
// signal. Then it kills the collector, and nobody who calls the services notices.
func TestTelemetry(t *testing.T) {
	t.Setenv("DECISION_WAIT", "2s") // of the collector; a saga's call is through by then
	dev := startDev(t)
	for _, c := range []string{"prometheus", "otelcol", "loki", "tempo"} {
		if dev.components[c] == "" {
			t.Skipf("no %s on this machine: build it with: make stack", c)
		}
	}
	conn, err := grpc.NewClient(dev.services["order"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	c := &customer{dev: dev, orders: orderv1.NewOrderServiceClient(conn)}
	c.stockUp(t)
	plain := c.buy(t, plainOrders, "tok_ok")
	declined := c.buy(t, declinedOrders, "tok_declined")
	slow := c.waitForLock(t, slowOrders)

	t.Run("traces", func(t *testing.T) { c.findTraces(t, plain, declined, slow) })
	t.Run("logs", func(t *testing.T) { c.findLines(t, plain) })
	t.Run("metrics", func(t *testing.T) { c.findMetrics(t) })
	t.Run("nobody notices that the collector is killed", func(t *testing.T) { c.loseCollector(t) })
}

// customer places orders whose traces it knows.
type customer struct {
	dev    *devSystem
	orders orderv1.OrderServiceClient
}

const tea = "TEA-1"

func (c *customer) stockUp(t *testing.T) {
	t.Helper()
	conn, err := grpc.NewClient(c.dev.services["inventory"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	_, err = inventoryv1.NewInventoryServiceClient(conn).SetStock(t.Context(), &inventoryv1.SetStockRequest{Sku: tea, OnHand: 1_000_000})
	require.NoError(t, err)
}

// buy places n orders and returns the ids of their traces, once the orders are through.
func (c *customer) buy(t *testing.T, n int, card string) []string {
	t.Helper()
	var traces, orders []string
	for range n {
		trace, order := c.place(t, card)
		traces, orders = append(traces, trace), append(orders, order)
	}
	for _, id := range orders {
		require.Eventually(t, func() bool {
			got, err := c.orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: id})
			return err == nil && got.GetOrder().GetStatus() != orderv1.OrderStatus_ORDER_STATUS_PENDING
		}, patience, 20*time.Millisecond)
	}
	return traces
}

func (c *customer) place(t *testing.T, card string) (trace, order string) {
	t.Helper()
	id, parent := uuid.New(), uuid.New()
	trace = hex.EncodeToString(id[:])
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+hex.EncodeToString(parent[:8])+"-01")
	r := request(uuid.NewString())
	r.CardToken, r.Items[0].Sku = card, tea
	placed, err := c.orders.PlaceOrder(ctx, r)
	require.NoError(t, err)
	return trace, placed.GetOrder().GetId()
}

// waitForLock places orders while their table is locked.
func (c *customer) waitForLock(t *testing.T, n int) (traces []string) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), c.dev.databases["order"])
	require.NoError(t, err)
	defer db.Close(t.Context())
	for range n {
		_, err = db.Exec(t.Context(), "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
		require.NoError(t, err)
		released := make(chan error, 1)
		time.AfterFunc(slowness, func() {
			_, err := db.Exec(context.WithoutCancel(t.Context()), "ROLLBACK")
			released <- err
		})
		traces = append(traces, c.buy(t, 1, "tok_ok")...)
		require.NoError(t, <-released)
	}
	return traces
}

// span is what the test wants to know of one.
type span struct {
	service, name string
	root          bool
	links         []string // ids of traces
}

// trace reads a trace of Tempo; it is nil when Tempo has none.
func (d *devSystem) trace(t *testing.T, id string) (spans []span) {
	t.Helper()
	var found struct {
		Batches []struct {
			Resource struct {
				Attributes []struct {
					Key   string
					Value struct{ StringValue string }
				}
			}
			ScopeSpans, InstrumentationLibrarySpans []struct { // the second until Tempo 1.5
				Spans []struct {
					Name         string
					ParentSpanID string
					Links        []struct{ TraceID []byte }
				}
			}
		}
	}
	if text, ok := d.fetch(t, d.components["tempo"]+"/api/traces/"+id); !ok || json.Unmarshal(text, &found) != nil {
		return nil
	}
	for _, b := range found.Batches {
		service := ""
		for _, a := range b.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.StringValue
			}
		}
		for _, scope := range slices.Concat(b.ScopeSpans, b.InstrumentationLibrarySpans) {
			for _, s := range scope.Spans {
				found := span{service: service, name: s.Name, root: s.ParentSpanID == ""}
				for _, l := range s.Links {
					found.links = append(found.links, hex.EncodeToString(l.TraceID))
				}
				spans = append(spans, found)
			}
		}
	}
	return spans
}

// search returns the ids of the traces that have spans with these tags.
func (d *devSystem) search(t *testing.T, tags string) (ids []string) {
	t.Helper()
	var found struct{ Traces []struct{ TraceID string } }
	now := time.Now()
	address := d.components["tempo"] + "/api/search?" + url.Values{
		"tags": {tags}, "limit": {"1000"}, "start": {unix(now.Add(-time.Hour))}, "end": {unix(now.Add(time.Minute))},
	}.Encode()
	if text, ok := d.fetch(t, address); ok {
		require.NoError(t, json.Unmarshal(text, &found), "%s", text)
	}
	for _, f := range found.Traces {
		ids = append(ids, fmt.Sprintf("%032s", f.TraceID))
	}
	return ids
}

// fetch reads a page, and tells whether it is there.
func (d *devSystem) fetch(t *testing.T, address string) ([]byte, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return text, err == nil && resp.StatusCode == http.StatusOK
}

// kept returns which of some traces Tempo has.
func (d *devSystem) kept(t *testing.T, ids []string) (kept []string) {
	t.Helper()
	for _, id := range ids {
		if len(d.trace(t, id)) > 0 {
			kept = append(kept, id)
		}
	}
	return kept
}

// findTraces counts what the collector has kept by each of its policies, and looks at the ways between the
// services.
func (c *customer) findTraces(t *testing.T, plain, declined, slow []string) {
	t.Helper()
	const failed = `name="saga checkout authorize-payment" status.code=error`
	assert.Eventually(t, func() bool {
		return len(c.dev.search(t, failed)) >= len(declined) && len(c.dev.kept(t, slow)) == len(slow) && len(c.dev.kept(t, plain)) > 0
	}, 2*patience, time.Second, "the collector decides after a few seconds")
	failures := c.dev.search(t, failed)
	require.Len(t, failures, len(declined), "each call that failed")
	require.Equal(t, slow, c.dev.kept(t, slow), "each order that was slow")
	rest := c.dev.kept(t, plain)
	require.NotEmpty(t, rest)
	require.Less(t, len(rest), len(plain)/2, "of the rest a tenth")
	t.Logf("kept: %d of %d failed calls, %d of %d slow orders, %d of %d others", len(failures), len(declined), len(slow), len(slow), len(rest), len(plain))

	request := services(c.dev.trace(t, slow[0]))
	require.Equal(t, []string{"order"}, request)
	all := slices.Concat(plain, declined, slow)
	// What follows from an order is a trace of its own that links to the one before it: a step of the
	// checkout to the request, a consumer to the step that confirmed the order.
	for _, edge := range []struct {
		root     string
		in       string // the service in which it begins
		services []string
		request  bool // the link leads to the request
	}{
		{"saga checkout reserve-stock", "order", []string{"inventory", "order"}, true},
		{"saga checkout authorize-payment", "order", []string{"order", "payment"}, true},
		{"saga checkout confirm-order", "order", []string{"order"}, true},
		{"process order.confirmed", "payment", []string{"payment"}, false},
		{"process order.confirmed", "inventory", []string{"inventory"}, false},
	} {
		ids := c.dev.search(t, `root.name="`+edge.root+`" root.service.name=`+edge.in)
		require.NotEmpty(t, ids, edge.root)
		spans := c.dev.trace(t, ids[0])
		require.Equal(t, edge.services, services(spans), edge.root)
		root := spans[slices.IndexFunc(spans, func(s span) bool { return s.root })]
		require.Equal(t, edge.root, root.name)
		require.Len(t, root.links, 1, edge.root)
		if edge.request {
			require.Contains(t, all, root.links[0], edge.root)
		}
		t.Logf("%-34s in %s, linked to its origin", root.name, strings.Join(edge.services, " and "))
	}
}

func services(spans []span) []string {
	names := map[string]bool{}
	for _, s := range spans {
		names[s.service] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// findLines finds what each service has logged for one order: by its correlation id, which is that of the
// request's trace, and the line of the request itself by its trace.
func (c *customer) findLines(t *testing.T, orders []string) {
	t.Helper()
	id := orders[len(orders)-1]
	for _, query := range []string{
		`{service_name="order"} | trace_id="` + id + `" | grpc_method="PlaceOrder"`,
		`{service_name="order"} | correlation_id="` + id + `"`,
		`{service_name="payment"} | correlation_id="` + id + `" | grpc_method="Authorize"`,
		`{service_name="inventory"} | correlation_id="` + id + `" | grpc_method="Reserve"`,
	} {
		var n int
		require.Eventually(t, func() bool {
			var err error
			n, err = c.dev.lines(t, query)
			return err == nil && n > 0
		}, 2*patience, time.Second, query)
		t.Logf("%d lines of %s", n, query)
	}
}

// findMetrics finds the metrics of each service and, in its histogram, an exemplar that leads to a trace.
func (c *customer) findMetrics(t *testing.T) {
	t.Helper()
	for service := range c.dev.services {
		selector := `grpc_server_handling_seconds_bucket{service="` + service + `"}`
		var traces []string
		require.Eventually(t, func() bool {
			var found []struct {
				Exemplars []struct{ Labels map[string]string }
			}
			now := time.Now()
			err := c.dev.get(t, "prometheus", "/api/v1/query_exemplars", url.Values{"query": {selector}, "start": {unix(now.Add(-time.Hour))}, "end": {unix(now)}}, &found)
			require.NoError(t, err)
			for _, f := range found {
				for _, e := range f.Exemplars {
					traces = append(traces, e.Labels["trace_id"])
				}
			}
			return len(traces) > 0
		}, 2*patience, time.Second, "a scrape comes every 15 s")
		require.Len(t, traces[0], 32)
		t.Logf("%s: %d exemplars", service, len(traces))
	}
}

// loseCollector compares the same orders with the collector and without.
func (c *customer) loseCollector(t *testing.T) {
	t.Helper()
	const n = 200
	measure := func() time.Duration {
		began := time.Now()
		for range n {
			c.place(t, "tok_ok")
		}
		return time.Since(began)
	}
	with := measure()
	var record struct{ PID int }
	text, err := os.ReadFile(filepath.Join(c.dev.dir, ".slipway", "run", "otelcol.process.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &record))
	require.Greater(t, record.PID, 1)
	require.NoError(t, syscall.Kill(record.PID, syscall.SIGKILL))
	without := measure()
	t.Logf("%d orders in %.2f s with the collector, in %.2f s without: ratio %.2f", n, with.Seconds(), without.Seconds(), without.Seconds()/with.Seconds())
	require.Eventually(t, func() bool {
		c.place(t, "tok_ok")
		page, ok := c.dev.fetch(t, "http://"+c.dev.admins["order"]+"/metrics")
		if !ok {
			return false
		}
		for line := range strings.Lines(string(page)) {
			if strings.HasPrefix(line, "trace_spans_dropped_total{") && !strings.HasSuffix(line, "} 0\n") {
				t.Log(strings.TrimSpace(line))
				return true
			}
		}
		return false
	}, 4*patience, 100*time.Millisecond, "what does not reach the collector is counted")
}
