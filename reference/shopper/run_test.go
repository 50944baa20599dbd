package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	t.Parallel()
	quick := []string{"--rate", "2000", "--wait", "10ms", "--seed", "3"}

	t.Run("prints a table and returns 0 when all went well", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{}
		code, stdout, stderr := runWith(t.Context(), append(quick, "--addr", fake.start(t), "--orders", "40")...)
		require.Zero(t, code, stdout+stderr)
		for _, part := range []string{"40 placed, 0 rejected", "p50 ", "p99 ", "2000.0/s offered", "seed 3", "orders are PENDING", "OK: all 40 orders"} {
			require.Contains(t, stdout, part)
		}
		require.Contains(t, stderr, "placing 40 orders at 2000/s")
	})

	t.Run("prints JSON that a script can read", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{faults: faults{lose: 10}}
		code, stdout, _ := runWith(t.Context(), append(quick, "--addr", fake.start(t), "--orders", "40", "--output", "json")...)
		require.Equal(t, 1, code)
		var r report
		require.NoError(t, json.Unmarshal([]byte(stdout), &r))
		require.False(t, r.OK)
		require.Len(t, r.Lost, 4)
		require.Equal(t, 36, r.States["PENDING"]+r.States["CANCELLED"])
	})

	t.Run("a table lists what is lost and wrong", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{faults: faults{lose: 2, change: 3}}
		code, stdout, _ := runWith(t.Context(), append(quick, "--addr", fake.start(t), "--orders", "60", "--watch", "0")...)
		require.Equal(t, 1, code)
		require.Contains(t, stdout, "lost  order-")
		require.Contains(t, stdout, "lost  and 20 more")
		require.Contains(t, stdout, "wrong  order-")
		require.Contains(t, stdout, "FAILED: 30 orders lost")
	})

	t.Run("a table shows each invariant, and the rows that break it", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{faults: faults{settle: true}, office: &office{}}
		addr := fake.start(t)
		args := slices.Concat(quick, []string{"--addr", addr, "--payment", addr, "--inventory", addr, "--orders", "40", "--wait", "30s"})
		code, stdout, stderr := runWith(t.Context(), args...)
		require.Zero(t, code, stdout+stderr)
		require.Regexp(t, `OK +CONFIRMED <=> captured with its total +\d+ orders\n`, stdout)
		require.Regexp(t, `OK +stock on hand \+ committed = initial stock +16 articles\n`, stdout)
		require.Regexp(t, `- +each committed event published.* not visible from outside\n`, stdout)

		fake.office.mu.Lock()
		fake.office.stolen = 2
		fake.office.mu.Unlock()
		code, stdout, _ = runWith(t.Context(), args...)
		require.Equal(t, 1, code)
		require.Regexp(t, `BROKEN +stock on hand \+ committed = initial stock +by 16 of 16 articles\n`, stdout)
		require.Regexp(t, `broken +stock on hand \+ committed = initial stock +VASE-SOLD-OUT-\w+: -2 on hand`, stdout)
		require.Contains(t, stdout, "1 of 8 invariants broken")
	})

	t.Run("a signal ends it with the summary of what was done", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{}
		addr := fake.start(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for fake.placed() < 5 {
				<-time.After(time.Millisecond)
			}
			cancel()
		}()
		code, stdout, _ := runWith(ctx, "--addr", addr, "--rate", "100", "--orders", "100000", "--wait", "1h")
		require.Zero(t, code, stdout)
		require.Contains(t, stdout, "STOPPED by a signal")
		require.Contains(t, stdout, "lost, wrong     0, 0")
	})

	t.Run("a run that takes too long fails with its summary", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{}
		code, stdout, _ := runWith(t.Context(), "--addr", fake.start(t), "--rate", "50", "--orders", "100000", "--wait", "1h", "--time-limit", "300ms")
		require.Equal(t, 1, code)
		require.Contains(t, stdout, "STOPPED by --time-limit")
	})

	t.Run("the token goes with every call", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{}
		file := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(file, []byte("sesame\n"), 0o600))
		code, stdout, _ := runWith(t.Context(), append(quick, "--addr", fake.start(t), "--orders", "3", "--token-file", file)...)
		require.Zero(t, code, stdout)
		require.Equal(t, "Bearer sesame", fake.tokens[0])
	})

	t.Run("TLS is spoken on demand only, and checked", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{}
		code, _, stderr := runWith(t.Context(), "--addr", fake.start(t), "--tls")
		require.Equal(t, 1, code)
		require.Contains(t, stderr, "tls: ")
		code, _, stderr = runWith(t.Context(), "--tls-ca", "/does/not/exist")
		require.Equal(t, 1, code)
		require.Contains(t, stderr, "/does/not/exist")
	})

	t.Run("a service that is not there is named, with what to do", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, listener.Close())
		code, stdout, stderr := runWith(t.Context(), "--addr", listener.Addr().String())
		require.Equal(t, 1, code)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "no order service answers at "+listener.Addr().String()+"\nstart it with: make dev")
	})
}

func TestRun_usage(t *testing.T) {
	t.Parallel()

	t.Run("help is no failure and shows an example", func(t *testing.T) {
		t.Parallel()
		code, _, stderr := runWith(t.Context(), "--help")
		require.Zero(t, code)
		require.Contains(t, stderr, "go run ./reference/shopper --orders 500 --rate 50")
		require.Contains(t, stderr, "-token-file file")
	})

	for args, message := range map[string]string{
		"--nonsense":                   "flag provided but not defined",
		"--orders x":                   "invalid value",
		"--orders 0 --rate -1":         "--orders 0 is not between 1 and 10,000,000\n--rate -1 is not above 0",
		"--cancel 2 --repeat -1":       "--repeat -1 is not between 0 and 1\n--cancel 2",
		"--declined 0.9 --unclear 0.2": "--declined 0.9 and --unclear 0.2 are more than 1 together",
		"--sold-out 1.1":               "--sold-out 1.1 is not between 0 and 1",
		"--output xml":                 "neither table nor json",
		"--concurrency 0 --timeout 0s": "--concurrency 0 is below 1\n--timeout 0s is not positive",
		"extra":                        `unexpected argument "extra"`,
		"--token-file /does/not/exist": "read token",
		"--token x --token-file y":     "exclude each other",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := runWith(t.Context(), strings.Fields(args)...)
			require.Equal(t, 2, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, message)
			require.Contains(t, stderr, "shopper --help")
		})
	}
}

func TestShopper_showProgress(t *testing.T) {
	t.Parallel()
	s := newShopper(options{orders: 10}, "r", &services{})
	s.counts.placed.Store(4)

	t.Run("lines tell what is placed", func(t *testing.T) {
		t.Parallel()
		var out safeBuffer
		stop := s.showLines(&out, time.Millisecond)
		require.Eventually(t, func() bool { return strings.Contains(out.String(), "placing: 4 of 10 placed, 0 failed, 0 retries\n") }, patience, time.Millisecond)
		stop()
	})

	t.Run("a bar ends when it is told to", func(t *testing.T) {
		t.Parallel()
		stop := s.showBar(&safeBuffer{})
		stop()
	})
}

// runWith runs the program with captured output.
func runWith(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs safeBuffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

// safeBuffer may be read while it is written.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (f *fakeService) placed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byKey)
}
