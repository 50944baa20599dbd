package e2e_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
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
	t.Run("logs", func(t *testing.T) { c.findLines(t, plain, declined) })
	t.Run("metrics", func(t *testing.T) { c.findMetrics(t) })
	t.Run("nobody notices that the collector is killed", func(t *testing.T) { c.loseCollector(t) })
}

// customer places orders whose traces it knows.
type customer struct {
	dev    *devSystem
	orders orderv1.OrderServiceClient
	// waited are the traces of orders that took so long that the collector may find them slow.
	waited []string
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
	began := time.Now()
	placed, err := c.orders.PlaceOrder(ctx, r)
	require.NoError(t, err)
	if time.Since(began) >= time.Second {
		c.waited = append(c.waited, trace)
	}
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
	quick := slices.DeleteFunc(slices.Clone(plain), func(id string) bool { return slices.Contains(c.waited, id) })
	rest := c.dev.kept(t, quick)
	require.NotEmpty(t, rest)
	tenth, deviation := 0.1*float64(len(quick)), math.Sqrt(0.1*0.9*float64(len(quick)))
	require.InDelta(t, tenth, len(rest), 5*deviation, "of the rest a tenth; more than five standard deviations are no chance")
	t.Logf("kept: %d of %d failed calls, %d of %d slow orders, %d of %d others", len(failures), len(declined), len(slow), len(slow), len(rest), len(quick))

	request := services(c.dev.trace(t, slow[0]))
	require.Equal(t, []string{"order"}, request)
	requests, confirmed := slices.Concat(plain, declined, slow), c.confirmations(t)
	// What follows from an order is a trace of its own that links to the one before it: a step of the
	// checkout to the request, a consumer to the step that confirmed the order.
	for _, edge := range []struct {
		root     string
		in       string // the service in which it begins
		services []string
		origins  []string // the traces that the link may lead to
	}{
		{"saga checkout reserve-stock", "order", []string{"inventory", "order"}, requests},
		{"saga checkout authorize-payment", "order", []string{"order", "payment"}, requests},
		{"saga checkout confirm-order", "order", []string{"order"}, requests},
		{"process order.confirmed", "payment", []string{"payment"}, confirmed},
		{"process order.confirmed", "inventory", []string{"inventory"}, confirmed},
	} {
		ids := c.dev.search(t, `root.name="`+edge.root+`" root.service.name=`+edge.in)
		require.NotEmpty(t, ids, edge.root)
		spans := c.dev.trace(t, ids[0])
		require.Equal(t, edge.services, services(spans), edge.root)
		root := spans[slices.IndexFunc(spans, func(s span) bool { return s.root })]
		require.Equal(t, edge.root, root.name)
		require.Len(t, root.links, 1, edge.root)
		require.Contains(t, edge.origins, root.links[0], edge.root)
		t.Logf("%-34s in %s, linked to its origin", root.name, strings.Join(edge.services, " and "))
	}
}

// confirmations returns the traces in which orders were confirmed.
func (c *customer) confirmations(t *testing.T) []string {
	t.Helper()
	db, err := pgx.Connect(t.Context(), c.dev.databases["order"])
	require.NoError(t, err)
	defer db.Close(t.Context())
	rows, err := db.Query(t.Context(), "SELECT trace_id FROM slipway.saga_journal WHERE step = 'confirm-order'")
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotEmpty(t, ids)
	return ids
}

func services(spans []span) []string {
	names := map[string]bool{}
	for _, s := range spans {
		names[s.service] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// findLines finds what each service has logged for one order: by its correlation id, which is that of the
// request's trace, and the line of the request itself by its trace. The line of a declined payment names
// the trace in which Tempo has the call.
func (c *customer) findLines(t *testing.T, plain, declined []string) {
	t.Helper()
	id := plain[len(plain)-1]
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
	var call string
	require.Eventually(t, func() bool {
		var found struct {
			Result []struct{ Stream map[string]string }
		}
		query := `{service_name="payment"} | correlation_id="` + declined[0] + `" | grpc_method="Authorize"`
		err := c.dev.get(t, "loki", "/loki/api/v1/query_range", url.Values{"query": {query}, "since": {"30m"}}, &found)
		if err != nil || len(found.Result) == 0 {
			return false
		}
		call = found.Result[0].Stream["trace_id"]
		return true
	}, 2*patience, time.Second)
	require.NotEqual(t, declined[0], call, "each call of a saga is a trace of its own")
	require.Contains(t, services(c.dev.trace(t, call)), "payment")
	t.Logf("a line of payment leads to the trace %s", call)
}

// findMetrics finds the metrics of each service and, in its histogram, an exemplar that leads to a trace.
// Of most traces only a tenth is kept: it goes on buying until there is one.
func (c *customer) findMetrics(t *testing.T) {
	t.Helper()
	for service := range c.dev.services {
		var found string
		require.Eventually(t, func() bool {
			for _, id := range c.exemplars(t, service) {
				if slices.Contains(services(c.dev.trace(t, id)), service) {
					found = id
					return true
				}
			}
			c.buy(t, 10, "tok_ok")
			return false
		}, 4*patience, time.Second, "a scrape comes every 15 s")
		t.Logf("%s: an exemplar leads to the trace %s", service, found)
	}
}

// exemplars returns the traces that the durations of a service's calls name.
func (c *customer) exemplars(t *testing.T, service string) (traces []string) {
	t.Helper()
	var found []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	now := time.Now()
	err := c.dev.get(t, "prometheus", "/api/v1/query_exemplars", url.Values{
		"query": {`grpc_server_handling_seconds_bucket{service="` + service + `"}`}, "start": {unix(now.Add(-time.Hour))}, "end": {unix(now)},
	}, &found)
	require.NoError(t, err)
	for _, f := range found {
		for _, e := range f.Exemplars {
			traces = append(traces, e.Labels["trace_id"])
		}
	}
	return traces
}

// loseCollector kills the collector and goes on buying. Once the queue of spans is full, spans of further
// orders are dropped and none of the orders waits for room. Tried with a processor that does: no span is
// dropped, and an order runs into its deadline.
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
	require.Eventually(t, func() bool {
		c.place(t, "tok_ok")
		return c.dropped(t) > 0
	}, 4*patience, time.Millisecond, "what the queue does not hold is counted")
	before := c.dropped(t)
	without := measure()
	lost := c.dropped(t) - before
	require.Positive(t, lost, "the queue was full")
	require.Less(t, without, 5*with+20*time.Second, "nobody waits for the collector")
	t.Logf("%d orders in %.2f s with the collector, in %.2f s without it and with a full queue, which dropped %.0f spans", n, with.Seconds(), without.Seconds(), lost)
}

// dropped is how many spans of the order service found the queue full.
func (c *customer) dropped(t *testing.T) (n float64) {
	t.Helper()
	page, ok := c.dev.fetch(t, "http://"+c.dev.admins["order"]+"/metrics")
	require.True(t, ok)
	const metric = `trace_spans_dropped_total{reason="queue_full"} `
	_, after, found := strings.Cut(string(page), metric)
	require.True(t, found, metric)
	_, err := fmt.Sscan(after, &n)
	require.NoError(t, err)
	return n
}
