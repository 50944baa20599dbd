// Package provider calls the payment provider over HTTP.
//
// Each call is bounded in time and in the size of its answer, and is made once: the provider knows a
// charge by its key, so it is the caller's to repeat it. Only a request that a kept connection has lost
// before any of the answer came is sent again, by net/http, which may because it carries an
// Idempotency-Key.
package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/slipwayhq/slipway/platform/failpoint"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 10

// Client implements the port Provider of the use cases. It is safe for concurrent use.
type Client struct {
	base    string
	http    *http.Client
	metrics *metrics
	tracer  trace.Tracer
}

// New returns a client that has no connection yet. reg and tp may be nil.
func New(cfg Config, reg prometheus.Registerer, tp trace.TracerProvider) (*Client, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration of the payment provider: %w", err)
	}
	if tp == nil {
		tp = noop.NewTracerProvider()
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: cfg.Timeout, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxConnsPerHost:     cfg.MaxConns,
		MaxIdleConnsPerHost: cfg.MaxConns,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: cfg.Timeout,
	}
	return &Client{
		base: strings.TrimSuffix(cfg.URL, "/") + "/v1/charges/", metrics: m,
		tracer: tp.Tracer("github.com/slipwayhq/slipway/reference/payment/adapter/provider"),
		http: &http.Client{
			Transport: transport, Timeout: cfg.Timeout,
			// A redirect would carry the card's token to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close gives up connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Authorize implements the port Provider.
func (c *Client) Authorize(ctx context.Context, key string, amount domain.Money, card domain.CardToken) (domain.Answer, error) {
	return c.call(ctx, "authorize", http.MethodPut, key, body{Amount: amountOf(amount), CardToken: string(card)})
}

// Lookup implements the port Provider.
func (c *Client) Lookup(ctx context.Context, key string) (domain.Answer, error) {
	return c.call(ctx, "lookup", http.MethodGet, key, body{})
}

// Void implements the port Provider.
func (c *Client) Void(ctx context.Context, key string) (domain.Answer, error) {
	return c.call(ctx, "void", http.MethodPost, key+"/void", body{})
}

// Capture implements the port Provider.
func (c *Client) Capture(ctx context.Context, key string, amount domain.Money) (domain.Answer, error) {
	return c.call(ctx, "capture", http.MethodPost, key+"/capture", body{Amount: amountOf(amount)})
}

// Refund implements the port Provider.
func (c *Client) Refund(ctx context.Context, key string, amount domain.Money) (domain.Answer, error) {
	return c.call(ctx, "refund", http.MethodPost, key+"/refund", body{Amount: amountOf(amount)})
}

// call makes one call, in a span, and counts it by what came of it.
func (c *Client) call(ctx context.Context, name, method, path string, b body) (domain.Answer, error) {
	ctx, span := c.tracer.Start(ctx, "provider "+name, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	begun := time.Now()
	failpoint.At("before-provider", name)
	status, text, err := c.send(ctx, method, path, b)
	failpoint.At("after-provider", name)
	var answer domain.Answer
	if err == nil {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		answer, err = read(status, text)
	}
	c.metrics.observe(name, answer, err, time.Since(begun))
	if err != nil {
		span.SetStatus(codes.Error, "no answer")
		span.RecordError(err)
		return domain.Answer{}, unknown(err)
	}
	return answer, nil
}

func (c *Client) send(ctx context.Context, method, path string, b body) (status int, text []byte, err error) {
	key, _, _ := strings.Cut(path, "/")
	target, err := url.Parse(c.base + path)
	if err != nil {
		return 0, nil, fmt.Errorf("address payment provider: %w", err)
	}
	encoded, err := json.Marshal(b)
	if err != nil {
		return 0, nil, fmt.Errorf("encode request: %w", err)
	}
	if method == http.MethodGet {
		encoded = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(encoded))
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("call payment provider: %w", err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("it is longer than %d bytes", maxAnswer)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read answer of payment provider: %w", err)
	}
	return resp.StatusCode, text, nil
}

// unknown says that the call may have had its effect, whoever gave up: the caller repeats it.
func unknown(err error) error {
	f := fault.Wrap(err, fault.Unavailable, "the payment provider has not answered yet: repeat the call")
	f.Reason = "PROVIDER_UNAVAILABLE"
	return f
}
