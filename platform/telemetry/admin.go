package telemetry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// AdminConfig tunes the admin server.
type AdminConfig struct {
	// Addr is where it listens; default 127.0.0.1:9464. It has no authentication: bind it to
	// loopback, or to a pod address that only the scraper reaches.
	Addr string `env:"ADMIN_ADDR"`
	// Pprof serves profiles under /debug/pprof/; default off, since they show memory.
	Pprof bool `env:"ADMIN_PPROF"`
}

// SetDefaults fills the zero fields.
func (c *AdminConfig) SetDefaults() { c.Addr = cmp.Or(c.Addr, "127.0.0.1:9464") }

// Validate reports every bad value at once.
func (c AdminConfig) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("ADMIN_ADDR: %q is not host:port", c.Addr)
	}
	return nil
}

// Admin is an HTTP server for the people and programs that watch a service:
//
//	/metrics       Prometheus metrics, in OpenMetrics format with exemplars to those who ask for it
//	/healthz       200 while the process answers
//	/readyz        200 while the service is ready, else 503 and the reason
//	/loglevel      GET tells the log level, PUT {"level":"debug"} changes it
//	/debug/pprof/  profiles, if switched on
//	/              the list of all these, as JSON
type Admin struct {
	cfg       AdminConfig
	mux       *http.ServeMux
	endpoints []string
	problems  *log.Logger
	listener  net.Listener
}

// NewAdmin returns an admin server for t. ready tells why the service is not ready, nil if it is;
// a nil ready means always.
func NewAdmin(cfg AdminConfig, t *Telemetry, ready func() error) (*Admin, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure admin server: %w", err)
	}
	problems, err := zap.NewStdLogAt(t.Logger.Named("admin"), zap.WarnLevel)
	if err != nil {
		return nil, fmt.Errorf("configure admin server: %w", err)
	}
	a := &Admin{cfg: cfg, mux: http.NewServeMux(), problems: problems}
	a.Handle("/metrics", promhttp.InstrumentMetricHandler(t.Registry, promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError, // a collector that needs a database must not take the others down
		ErrorLog:          problems,
	})))
	a.Handle("/healthz", probe(func() error { return nil }))
	a.Handle("/readyz", probe(ready))
	a.Handle("/loglevel", t.Level)
	if cfg.Pprof {
		a.Handle("/debug/pprof/", http.HandlerFunc(pprof.Index))
		for name, h := range map[string]http.HandlerFunc{
			"cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
		} {
			a.mux.Handle("/debug/pprof/"+name, h)
		}
	}
	a.mux.Handle("/{$}", http.HandlerFunc(a.index))
	return a, nil
}

// Handle adds a handler; call it before Run. It panics when the pattern is taken or malformed, as
// [http.ServeMux] does.
func (a *Admin) Handle(pattern string, h http.Handler) {
	a.endpoints = append(a.endpoints, pattern)
	a.mux.Handle(pattern, h)
}

// Listen opens the port, so that a start fails early when it is taken; Run does it otherwise. Call
// it before Run is started in another goroutine.
func (a *Admin) Listen() error {
	if a.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", a.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen for the admin server: %w; end what uses the address or set ADMIN_ADDR to a free one", err)
	}
	a.listener = l
	return nil
}

// Addr returns where the server listens, nil before Listen.
func (a *Admin) Addr() net.Addr {
	if a.listener == nil {
		return nil
	}
	return a.listener.Addr()
}

// Run serves until ctx ends, which is no error, and gives requests in flight a second to finish. It
// can run once.
func (a *Admin) Run(ctx context.Context) error {
	if err := a.Listen(); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           a.mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes its time
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          a.problems,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(a.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve admin requests: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close() // what is left is cut off
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin requests: %w", err)
	}
	return nil
}

func (a *Admin) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string][]string{"endpoints": slices.Sorted(slices.Values(a.endpoints))})
}

// probe answers 200, or 503 with the reason why not; nobody may keep either.
func probe(check func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if check != nil {
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintln(w, err)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
}
