package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

func TestResult_judge(t *testing.T) {
	t.Parallel()
	good := func() *result {
		return &result{
			variant: variant{name: "slipway", backoff: standard},
			exits:   []exit{{time.Second, 0}, {2 * time.Second, 0}},
			calls:   100,
			gap:     300 * time.Millisecond, net: 50 * time.Millisecond,
		}
	}
	for _, c := range []struct {
		name, breach string
		change       func(*result)
	}{
		{"a clean run", "", func(*result) {}},
		{"a lost call", "1 calls failed Unavailable=1", func(r *result) { r.failed = map[codes.Code]int{codes.Unavailable: 1} }},
		{"an exit with an error", "exit code 0,1", func(r *result) { r.exits[1].code = 1 }},
		{"a late exit", "took 3.1s to exit", func(r *result) { r.exits[0].took = 3100 * time.Millisecond }},
		{"a silent stream", "silent for 200ms", func(r *result) { r.net = gapLimit }},
		{"a control that loses nothing", "cannot be trusted", func(r *result) { r.variant.name = "kill" }},
		{"what is usual is not judged", "", func(r *result) { r.variant.name, r.exits[0].code = "naive", -1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := good()
			c.change(r)
			err := errors.Join(r.judge(options{delay: time.Second})...)
			if c.breach == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.breach)
		})
	}
}

func TestResult_String(t *testing.T) {
	t.Parallel()
	r := &result{
		variant: variant{name: "kill", backoff: fast},
		exits:   []exit{{30 * time.Millisecond, -1}, {10 * time.Millisecond, -1}},
		calls:   600, failed: map[codes.Code]int{codes.Unavailable: 2, codes.Canceled: 1},
		p99: 90 * time.Millisecond, gap: 250 * time.Millisecond, net: 40 * time.Millisecond, stall: 210 * time.Millisecond,
	}
	require.Equal(t, "drain variant=kill backoff=fast restarts=2 calls=600 failed=3 exit=-1 exit_p50=0.01s exit_p100=0.03s"+
		" gap_max=250ms gap_net=40ms stall_max=210ms p99=90ms Canceled=1 Unavailable=2", r.String())
}
