package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// exitSlack is how long a replica may take beyond its drain delay.
	exitSlack = 2 * time.Second
	// gapLimit is how long a stream may be silent while its replica is restarted, without the
	// time in which the client itself did not run.
	gapLimit = 200 * time.Millisecond
)

// result is what a trial of a variant has shown.
type result struct {
	variant variant
	exits   []exit
	calls   int
	failed  map[codes.Code]int
	p99     time.Duration // of calls, from when they were due
	gap     time.Duration // between two messages of a stream, the longest
	net     time.Duration // the same without the time in which the client did not run
	stall   time.Duration // the longest time in which it did not
}

// String is one line to grep.
func (r *result) String() string {
	return fmt.Sprintf("drain variant=%s backoff=%s restarts=%d calls=%d failed=%d exit=%s exit_p50=%.2fs exit_p100=%.2fs gap_max=%dms gap_net=%dms stall_max=%dms p99=%dms%s",
		r.variant.name, r.variant.backoff, len(r.exits), r.calls, r.failures(), r.codes(),
		r.exit(50).Seconds(), r.exit(100).Seconds(), r.gap.Milliseconds(), r.net.Milliseconds(), r.stall.Milliseconds(), r.p99.Milliseconds(), r.causes())
}

// judge returns how the variant breaks its promise. Only Slipway's makes one, and the control:
// to lose calls.
func (r *result) judge(o options) []error {
	var broken []error
	bad := func(format string, args ...any) {
		broken = append(broken, fmt.Errorf("%s, %s backoff: %w", r.variant.name, r.variant.backoff, fmt.Errorf(format, args...)))
	}
	switch r.variant.name {
	case "kill":
		if r.failures() == 0 {
			bad("replicas were killed and no call failed: the count cannot be trusted")
		}
	case "slipway":
		if n := r.failures(); n > 0 {
			bad("%d calls failed%s", n, r.causes())
		}
		if codes := r.codes(); codes != "0" {
			bad("exit code %s", codes)
		}
		if limit := o.delay + exitSlack; r.exit(100) > limit {
			bad("a replica took %s to exit, more than %s", r.exit(100), limit)
		}
		if r.net >= gapLimit {
			bad("a stream was silent for %s, more than %s", r.net, gapLimit)
		}
	}
	return broken
}

func (r *result) failures() int {
	n := 0
	for _, count := range r.failed {
		n += count
	}
	return n
}

// causes lists the failures by their code.
func (r *result) causes() string {
	var s strings.Builder
	for _, code := range slices.Sorted(maps.Keys(r.failed)) {
		fmt.Fprintf(&s, " %s=%d", code, r.failed[code])
	}
	return s.String()
}

// codes lists the different exit codes; -1 stands for death by a signal.
func (r *result) codes() string {
	seen := make(map[int]bool)
	for _, e := range r.exits {
		seen[e.code] = true
	}
	var list []string
	for _, code := range slices.Sorted(maps.Keys(seen)) {
		list = append(list, fmt.Sprint(code))
	}
	return strings.Join(list, ",")
}

// exit is a percentile of the times from the signal to the end of the process.
func (r *result) exit(percent int) time.Duration {
	times := make([]time.Duration, len(r.exits))
	for i, e := range r.exits {
		times[i] = e.took
	}
	slices.Sort(times)
	return times[max(0, (len(times)*percent+99)/100-1)]
}
