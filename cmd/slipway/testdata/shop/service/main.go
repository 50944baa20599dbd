// Command service is a service for the tests of slipway dev: it counts its starts
// in its database, answers the health service and drains.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot start:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if os.Getenv("SHOP_BROKEN") == os.Getenv("OTEL_SERVICE_NAME") {
		return fmt.Errorf("%s is broken", os.Getenv("SHOP_BROKEN"))
	}
	starts, err := countStart(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	for _, name := range []string{"REDIS_URL", "BROKER_URL"} {
		if err := reach(os.Getenv(name)); err != nil {
			return fmt.Errorf("reach %s: %w", name, err)
		}
	}
	l, err := net.Listen("tcp", os.Getenv("GRPC_ADDR"))
	if err != nil {
		return err
	}
	h, s := health.NewServer(), grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	h.SetServingStatus("readiness", grpc_health_v1.HealthCheckResponse_SERVING)
	logLine("info", "started", map[string]any{"starts": starts, "stage": os.Getenv("ENVIRONMENT"), "auth": os.Getenv("AUTH_MODE"), "calls": os.Getenv("SHOP_ADDR"), "traces": os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")})
	go s.Serve(l)
	<-ctx.Done()
	if os.Getenv("SHOP_DEAF") == os.Getenv("OTEL_SERVICE_NAME") {
		logLine("warn", "does not stop", nil)
		select {}
	}
	h.Shutdown()
	if err := reach(os.Getenv("BROKER_URL")); err != nil {
		logLine("error", "broker gone before the drain", nil)
	}
	s.GracefulStop()
	logLine("info", "drained", nil)
	return nil
}

// countStart adds a row and returns how many there are.
func countStart(ctx context.Context, databaseURL string) (starts int, err error) {
	if databaseURL == "" {
		return 0, nil
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "INSERT INTO starts DEFAULT VALUES"); err != nil {
		return 0, err
	}
	return starts, conn.QueryRow(ctx, "SELECT count(*) FROM starts").Scan(&starts)
}

func reach(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func logLine(level, message string, fields map[string]any) {
	line := map[string]any{"ts": time.Now().UTC().Format(time.RFC3339Nano), "level": level, "msg": message}
	for k, v := range fields {
		line[k] = v
	}
	_ = json.NewEncoder(os.Stdout).Encode(line)
}
