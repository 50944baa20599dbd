package provider_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/payment/adapter/provider"
	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/providersim"
)

const patience = 30 * time.Second

var price = domain.Money{Currency: "EUR", Minor: 700}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a client of a provider that is h.
type bundle struct {
	*provider.Client
	registry *prometheus.Registry
}

func setup(t *testing.T, h http.Handler, timeout time.Duration) bundle {
	t.Helper()
	server := httptest.NewServer(h)
	registry := prometheus.NewRegistry()
	client, err := provider.New(provider.Config{URL: server.URL + "/", Timeout: timeout}, registry, sdktrace.NewTracerProvider())
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return bundle{client, registry}
}

func simulator(t *testing.T) *providersim.Simulator {
	t.Helper()
	ledger, err := providersim.OpenLedger(filepath.Join(t.TempDir(), "ledger.jsonl"))
	require.NoError(t, err)
	s := providersim.New(ledger)
	t.Cleanup(func() {
		s.Close()
		_ = ledger.Close()
	})
	return s
}

// counted is how many calls there were with that result.
func (b bundle) counted(t *testing.T, call, result string) int {
	t.Helper()
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == call && m.GetLabel()[1].GetValue() == result {
			return int(m.GetHistogram().GetSampleCount())
		}
	}
	require.Fail(t, "no such series", "%s %s", call, result)
	return 0
}

func TestClient_answers(t *testing.T) {
	t.Parallel()
	b := setup(t, simulator(t), patience)
	ctx := t.Context()
	requireAnswer := func(want domain.Charge, got domain.Answer, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, want, got.Charge)
	}

	for _, key := range []string{"p-1", "p-2"} {
		got, err := b.Lookup(ctx, key)
		requireAnswer(domain.NoCharge, got, err)
		got, err = b.Void(ctx, key)
		requireAnswer(domain.NoCharge, got, err)
		got, err = b.Authorize(ctx, key, price, "tok_ok")
		requireAnswer(domain.ChargeHeld, got, err)
	}
	got, err := b.Capture(ctx, "p-1", price)
	requireAnswer(domain.ChargeCaptured, got, err)
	got, err = b.Void(ctx, "p-1")
	requireAnswer(domain.ChargeCaptured, got, err)
	got, err = b.Refund(ctx, "p-1", price)
	requireAnswer(domain.ChargeRefunded, got, err)
	got, err = b.Void(ctx, "p-2")
	requireAnswer(domain.ChargeVoided, got, err)
	got, err = b.Capture(ctx, "p-2", price)
	requireAnswer(domain.ChargeVoided, got, err)
	got, err = b.Authorize(ctx, "p-3", price, "tok_insufficient_funds")
	requireAnswer(domain.ChargeDeclined, got, err)
	require.Equal(t, "insufficient_funds", got.Reason)

	require.Equal(t, 2, b.counted(t, "authorize", "authorized"))
	require.Equal(t, 1, b.counted(t, "authorize", "declined"))
	require.Equal(t, 0, b.counted(t, "refund", "timeout"), "series are there before they move")
}

// requireUnknown makes sure that the caller is told to repeat the call and nothing else.
func requireUnknown(t *testing.T, err error) {
	t.Helper()
	require.Equal(t, fault.Unavailable, fault.CodeOf(err), "%v", err)
	require.NotContains(t, err.Error(), "tok_")
}

func TestClient_unknownOutcomes(t *testing.T) {
	t.Parallel()

	t.Run("no answer in time", func(t *testing.T) {
		t.Parallel()
		b := setup(t, simulator(t), 200*time.Millisecond)
		_, err := b.Authorize(t.Context(), "p-1", price, "tok_timeout_lost")
		requireUnknown(t, err)
		require.Equal(t, 1, b.counted(t, "authorize", "timeout"))
	})

	t.Run("a caller that gives up", func(t *testing.T) {
		t.Parallel()
		b := setup(t, simulator(t), patience)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.Authorize(ctx, "p-1", price, "tok_ok")
		requireUnknown(t, err)
		require.Equal(t, 1, b.counted(t, "authorize", "cancelled"))
	})

	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		server.Close()
		client, err := provider.New(provider.Config{URL: server.URL}, nil, nil)
		require.NoError(t, err)
		_, err = client.Lookup(t.Context(), "p-1")
		requireUnknown(t, err)
	})

	for name, row := range map[string]struct {
		answer http.HandlerFunc
		result string
	}{
		"an error":                  {status(http.StatusInternalServerError, "tok_ok is unlucky"), "error"},
		"the bank away":             {status(http.StatusGatewayTimeout, ""), "error"},
		"too many calls":            {status(http.StatusTooManyRequests, ""), "error"},
		"a refusal":                 {status(http.StatusUnprocessableEntity, ""), "refused"},
		"a redirect":                {redirect, "refused"},
		"404 of somebody else":      {status(http.StatusNotFound, "no such page"), "unreadable"},
		"no JSON":                   {status(http.StatusOK, "<html>"), "unreadable"},
		"a state that nobody knows": {status(http.StatusOK, `{"state": "pending"}`), "unreadable"},
		"an answer without an end":  {endless, "unreadable"},
		"an answer that breaks off": {cut, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, row.answer, patience)
			_, err := b.Capture(t.Context(), "p-1", price)
			requireUnknown(t, err)
			require.Equal(t, 1, b.counted(t, "capture", row.result))
		})
	}
}

func status(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, text)
	}
}

func redirect(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/elsewhere" {
		panic("followed")
	}
	http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := fmt.Fprint(w, strings.Repeat(" ", 1024)); err != nil {
			return
		}
	}
}

func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestClient_request(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	b := setup(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		fmt.Fprintf(w, `{"state": "declined", "reason": "no\u0001 money%s"}`, strings.Repeat("!", 200))
	}), patience)
	got, err := b.Authorize(t.Context(), "p-1", price, "tok_ok")
	require.NoError(t, err)
	r := <-seen
	require.Equal(t, "PUT /v1/charges/p-1", r.Method+" "+r.URL.Path)
	require.Equal(t, "p-1", r.Header.Get("Idempotency-Key"), "what lets net/http repeat what a connection has lost")
	require.NotEmpty(t, r.Header.Get("Traceparent"))
	require.Len(t, got.Reason, 99, "reasons are bounded, and fit to be shown")
	require.True(t, strings.HasPrefix(got.Reason, "no money!"))
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"localhost:80", "ftp://x", "http://", "http://user:secret@x", "http://x?key=1", "::"} {
		_, err := provider.New(provider.Config{URL: url, Timeout: -1, MaxConns: -1}, nil, nil)
		for _, name := range []string{"PROVIDER_URL", "PROVIDER_TIMEOUT", "PROVIDER_MAX_CONNS"} {
			require.ErrorContains(t, err, name, url)
		}
		require.NotContains(t, err.Error(), "secret")
	}
	var cfg provider.Config
	cfg.SetDefaults()
	require.NoError(t, cfg.Validate())
	require.Equal(t, provider.Config{Timeout: 5 * time.Second, MaxConns: 64}, cfg)
}
