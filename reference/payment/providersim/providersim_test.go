package providersim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/reference/payment/providersim"
)

const patience = 30 * time.Second

// ledgerOfProcess, set, makes the test binary a provider.
const ledgerOfProcess = "PROVIDERSIM_LEDGER"

func TestMain(m *testing.M) {
	name := os.Getenv(ledgerOfProcess)
	if name == "" {
		goleak.VerifyTestMain(m)
		return
	}
	server, err := providersim.Listen("127.0.0.1:0", name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(server.URL())
	_ = server.Run(context.Background())
}

// bundle is a client of a simulator.
type bundle struct {
	*testing.T
	simulator *providersim.Simulator
	file      string
	url       string
	client    *http.Client
}

func setup(t *testing.T) *bundle {
	t.Helper()
	return setupOn(t, filepath.Join(t.TempDir(), "ledger.jsonl"))
}

func setupOn(t *testing.T, file string) *bundle {
	t.Helper()
	ledger, err := providersim.OpenLedger(file)
	require.NoError(t, err)
	simulator := providersim.New(ledger)
	server := httptest.NewServer(simulator)
	b := &bundle{T: t, simulator: simulator, file: file, url: server.URL, client: server.Client()}
	t.Cleanup(func() {
		simulator.Close()
		server.Close()
		_ = ledger.Close()
	})
	return b
}

// call returns the status and the charge or the text of the answer. A status of 0 means that none came.
func (b *bundle) call(method, path, body string) (status int, ch providersim.Charge, text string) {
	b.Helper()
	return b.callFor(patience, method, path, body)
}

func (b *bundle) callFor(d time.Duration, method, path, body string) (status int, ch providersim.Charge, text string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), d)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.url+path, strings.NewReader(body))
	require.NoError(b, err)
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, ch, ""
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ch, ""
	}
	_ = json.Unmarshal(answer, &ch)
	return resp.StatusCode, ch, string(answer)
}

func (b *bundle) authorize(key, token string) (int, providersim.Charge) {
	b.Helper()
	status, ch, _ := b.call(http.MethodPut, "/v1/charges/"+key, order(700, token))
	return status, ch
}

func (b *bundle) require(want providersim.State, status int, ch providersim.Charge) {
	b.Helper()
	require.Equal(b, http.StatusOK, status)
	require.Equal(b, want, ch.State)
}

// effects reads the ledger over HTTP: the effects on a key, with the amounts in place.
func (b *bundle) effects(key string) (all []providersim.Effect) {
	b.Helper()
	_, _, text := b.call(http.MethodGet, "/ledger", "")
	for line := range strings.Lines(text) {
		var e providersim.Entry
		require.NoError(b, json.Unmarshal([]byte(line), &e))
		if e.Key == key {
			require.Equal(b, providersim.Amount{Currency: "EUR", Minor: 700}, e.Amount)
			require.WithinDuration(b, time.Now(), e.At, patience)
			all = append(all, e.Effect)
		}
	}
	return all
}

func order(minor int, token string) string {
	return fmt.Sprintf(`{"amount": {"currency": "EUR", "minor": %d}, "card_token": %q}`, minor, token)
}

func TestSimulator_life(t *testing.T) {
	t.Parallel()

	t.Run("a charge is authorized, captured and refunded, each once", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for range 2 {
			status, ch := b.authorize("k", "tok_ok")
			b.require(providersim.StateAuthorized, status, ch)
		}
		for _, step := range []struct {
			path string
			want providersim.State
		}{{"capture", providersim.StateCaptured}, {"refund", providersim.StateRefunded}} {
			for range 2 {
				status, ch, _ := b.call(http.MethodPost, "/v1/charges/k/"+step.path, order(700, ""))
				b.require(step.want, status, ch)
			}
		}
		status, ch, _ := b.call(http.MethodGet, "/v1/charges/k", "")
		b.require(providersim.StateRefunded, status, ch)
		require.Equal(t, []providersim.Effect{"authorized", "captured", "refunded"}, b.effects("k"))
	})

	t.Run("what the state does not allow is answered with the charge", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.authorize("captured", "tok_ok")
		b.call(http.MethodPost, "/v1/charges/captured/capture", order(700, ""))
		b.authorize("voided", "tok_ok")
		b.call(http.MethodPost, "/v1/charges/voided/void", "")
		b.authorize("declined", "tok_declined")
		for path, want := range map[string]providersim.State{
			"captured/void": "captured", "voided/capture": "voided", "voided/refund": "voided",
			"declined/void": "declined", "declined/capture": "declined",
		} {
			status, ch, _ := b.call(http.MethodPost, "/v1/charges/"+path, order(700, ""))
			require.Equal(t, http.StatusConflict, status, path)
			require.Equal(t, want, ch.State, path)
		}
		status, ch := b.authorize("voided", "tok_ok")
		b.require(providersim.StateVoided, status, ch)
	})

	t.Run("nothing is known of a key before, also after a void", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for _, call := range []string{"GET ", "POST /void", "POST /capture", "POST /refund"} {
			method, path, _ := strings.Cut(call, " ")
			status, _, _ := b.call(method, "/v1/charges/k"+path, order(700, ""))
			require.Equal(t, http.StatusNotFound, status, call)
		}
		require.Empty(t, b.effects("k"))
		status, ch := b.authorize("k", "tok_ok")
		b.require(providersim.StateAuthorized, status, ch)
	})

	t.Run("a call about another amount, or about none, is refused", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.authorize("k", "tok_ok")
		for _, path := range []string{"PUT /v1/charges/k", "POST /v1/charges/k/capture", "POST /v1/charges/k/refund"} {
			method, path, _ := strings.Cut(path, " ")
			status, _, _ := b.call(method, path, order(699, "tok_ok"))
			require.Equal(t, http.StatusUnprocessableEntity, status, path)
		}
		status, _, _ := b.call(http.MethodPut, "/v1/charges/new", order(0, "tok_ok"))
		require.Equal(t, http.StatusUnprocessableEntity, status)
		status, _, _ = b.call(http.MethodPut, "/v1/charges/new", "{")
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, []providersim.Effect{"authorized"}, b.effects("k"))
	})
}

func TestSimulator_cards(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.simulator.SetFaults(providersim.Faults{Slow: providersim.Duration(time.Millisecond), Late: providersim.Duration(20 * time.Millisecond)}))

	for token, reason := range map[string]string{
		"tok_declined": "declined", "tok_insufficient_funds": "insufficient_funds",
		"tok_expired_card": "expired_card", "tok_stolen_card": "stolen_card",
	} {
		for range 2 {
			status, ch := b.authorize(token, token)
			b.require(providersim.StateDeclined, status, ch)
			require.Equal(t, reason, ch.Reason)
		}
		require.Equal(t, []providersim.Effect{"declined"}, b.effects(token))
	}
	for token, failures := range map[string]int{"tok_flaky": 2, "tok_flaky_4": 4, "tok_slow": 0, "whatever": 0, "tok_unknown": 0} {
		for range failures {
			status, _ := b.authorize(token, token)
			require.Equal(t, http.StatusInternalServerError, status, token)
		}
		status, ch := b.authorize(token, token)
		b.require(providersim.StateAuthorized, status, ch)
		require.Equal(t, []providersim.Effect{"authorized"}, b.effects(token))
	}
	for range 3 {
		status, _ := b.authorize("tok_error", "tok_error")
		require.Equal(t, http.StatusInternalServerError, status)
	}
	require.Empty(t, b.effects("tok_error"))
}

func TestSimulator_unknownOutcomes(t *testing.T) {
	t.Parallel()

	t.Run("tok_timeout has authorized and does not answer, however often it is asked", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for range 2 {
			status, _, _ := b.callFor(time.Second, http.MethodPut, "/v1/charges/k", order(700, "tok_timeout"))
			require.Zero(t, status)
		}
		status, ch, _ := b.call(http.MethodGet, "/v1/charges/k", "")
		b.require(providersim.StateAuthorized, status, ch)
	})

	t.Run("tok_timeout_lost has done nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		status, _, _ := b.callFor(100*time.Millisecond, http.MethodPut, "/v1/charges/k", order(700, "tok_timeout_lost"))
		require.Zero(t, status)
		require.Empty(t, b.effects("k"))
	})

	t.Run("tok_late is authorized after a void that found nothing", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		require.NoError(t, b.simulator.SetFaults(providersim.Faults{Late: providersim.Duration(300 * time.Millisecond)}))
		for range 2 {
			status, _ := b.authorize("k", "tok_late")
			require.Equal(t, http.StatusGatewayTimeout, status)
		}
		status, _, _ := b.call(http.MethodPost, "/v1/charges/k/void", "")
		require.Equal(t, http.StatusNotFound, status)
		require.Eventually(t, func() bool { return len(b.effects("k")) > 0 }, patience, 5*time.Millisecond)
		status, ch := b.authorize("k", "tok_late")
		b.require(providersim.StateAuthorized, status, ch)
		require.Equal(t, []providersim.Effect{"authorized"}, b.effects("k"))
	})

	t.Run("a simulator that is closed lets nobody hang", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		cut := make(chan int)
		go func() {
			status, _, _ := b.call(http.MethodPut, "/v1/charges/k", order(700, "tok_timeout"))
			cut <- status
		}()
		require.Eventually(t, func() bool { return len(b.effects("k")) == 1 }, patience, 5*time.Millisecond)
		b.simulator.Close()
		require.Zero(t, <-cut)
	})
}

func TestSimulator_faults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	set := func(faults string) int {
		status, _, _ := b.call(http.MethodPut, "/admin/faults", faults)
		return status
	}

	require.Equal(t, http.StatusOK, set(`{"error_rate": 1}`))
	status, _ := b.authorize("none", "tok_ok")
	require.Equal(t, http.StatusInternalServerError, status)
	require.Empty(t, b.effects("none"))

	require.Equal(t, http.StatusOK, set(`{"lost_reply_rate": 1}`))
	status, _ = b.authorize("done", "tok_ok")
	require.Equal(t, http.StatusInternalServerError, status)
	require.Equal(t, []providersim.Effect{"authorized"}, b.effects("done"))

	require.Equal(t, http.StatusOK, set(`{"latency": "40ms"}`))
	_, _, text := b.call(http.MethodGet, "/admin/faults", "")
	require.JSONEq(t, `{"latency": "40ms", "error_rate": 0, "lost_reply_rate": 0, "slow": "2s", "late": "3s"}`, text)
	begun := time.Now()
	b.authorize("done", "tok_ok")
	require.GreaterOrEqual(t, time.Since(begun), 40*time.Millisecond)

	for _, bad := range []string{`{"error_rate": 1.1}`, `{"lost_reply_rate": -1}`, `{"latency": 5}`, `{"slow": "-1s"}`, `{`} {
		require.Equal(t, http.StatusBadRequest, set(bad), bad)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.jsonl")
	server, err := providersim.Listen("127.0.0.1:0", file)
	require.NoError(t, err)
	_, err = providersim.Listen(strings.TrimPrefix(server.URL(), "http://"), filepath.Join(t.TempDir(), "other.jsonl"))
	require.ErrorContains(t, err, "listen")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	b := &bundle{T: t, url: server.URL(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	status, ch := b.authorize("k", "tok_ok")
	b.require(providersim.StateAuthorized, status, ch)
	cancel()
	require.NoError(t, <-ended)
	again, err := providersim.Listen("127.0.0.1:0", file)
	require.NoError(t, err, "the ledger is free")
	again.Close()
}
