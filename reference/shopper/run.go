package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Why a run ended early.
const (
	interrupted = "a signal"
	overtime    = "--time-limit"
)

// run is the program: it returns the exit code. The summary goes to stdout, everything else to
// stderr. When ctx ends, what was done so far is checked and summed up.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parseOptions(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "shopper: %v\nsee: shopper --help\n", err)
		return exitUsage
	}
	ok, err := shop(ctx, opts, stdout, stderr)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "shopper: %v\n", err)
		return exitFailed
	case !ok:
		return exitFailed
	}
	return exitOK
}

// shop does the run and prints its summary.
func shop(ctx context.Context, opts options, stdout, stderr io.Writer) (ok bool, err error) {
	clients, err := dial(opts)
	if err != nil {
		return false, err
	}
	defer clients.close()
	if opts.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+opts.token)
	}
	s := newShopper(opts, uuid.NewString()[:8], clients)
	if err := s.knock(ctx); err != nil {
		return false, err
	}
	if err := s.fill(ctx); err != nil {
		return false, err
	}
	fmt.Fprintf(stderr, "placing %d orders at %g/s with %s (run %s, seed %d)\n", opts.orders, opts.rate, opts.addr, s.wishes.run, opts.seed)
	hide := s.showProgress(stderr)
	limited, cancel := context.WithTimeout(ctx, opts.timeLimit)
	defer cancel()
	s.shop(limited)
	stopped := whyStopped(ctx, limited, s)
	s.reconcile(context.WithoutCancel(ctx))
	s.audit(context.WithoutCancel(ctx))
	hide()

	summary := s.report(stopped)
	if opts.output == "json" {
		return summary.OK, summary.writeJSON(stdout)
	}
	return summary.OK, summary.writeTable(stdout)
}

// whyStopped says why not everything was done, or "".
func whyStopped(ctx, limited context.Context, s *shopper) string {
	switch {
	case ctx.Err() != nil:
		return interrupted
	case limited.Err() != nil && len(s.purchases) < s.opts.orders:
		return overtime
	}
	return ""
}

// knock tells in plain words why the service cannot be used.
func (s *shopper) knock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.callTimeout)
	defer cancel()
	_, err := s.orders.ListOrders(ctx, &orderv1.ListOrdersRequest{PageSize: 1})
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.Unavailable, codes.DeadlineExceeded:
		return fmt.Errorf("no order service answers at %s\nstart it with: make dev\n(%w)", s.opts.addr, err)
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Errorf("the order service at %s does not let this caller in: use --token-file\n(%w)", s.opts.addr, err)
	case codes.Unimplemented:
		return fmt.Errorf("the server at %s is no order service\n(%w)", s.opts.addr, err)
	default:
		return fmt.Errorf("ask %s for its orders: %w", s.opts.addr, err)
	}
}
