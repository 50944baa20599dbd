// Command mutate breaks the rules of ops/ in every way that it knows, one at a time, and demands that
// their tests notice: thresholds, comparisons, aggregations and their labels, matchers, names of
// metrics, and how long an alert waits. It prints how many mutants the tests killed, and the others.
//
// It runs in the root of the repository and needs promtool.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/ops/rules"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	workers := flag.Int("workers", 2, "tests that run at the same time")
	only := flag.String("rule", "", "only mutants of rules whose name contains this")
	flag.Parse()
	if err := run(ctx, os.Stdout, *workers, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

// dir is where the rules and their tests are.
const dir = "ops/prometheus"

var errSurvivors = errors.New("some mutants survive and nothing says why: add a test, or a reason to equivalents")

func run(ctx context.Context, out io.Writer, workers int, only string) error {
	tools := rules.Tools(".", "promtool")
	if len(tools) == 0 {
		fmt.Fprintln(out, "skipped: needs promtool; make stack ARGS=prometheus builds it, or install Prometheus")
		return nil
	}
	files, err := rules.Read(os.DirFS(dir), "rules/*.yml")
	if err != nil {
		return err
	}
	var all []mutant
	for _, f := range files {
		all = append(all, mutants(f)...)
	}
	all = slices.DeleteFunc(all, func(m mutant) bool { return !strings.Contains(m.rule, only) })
	survivors, err := survivors(ctx, tools[len(tools)-1], workers, files, all)
	if err != nil {
		return err
	}
	unexplained := 0
	for _, m := range survivors {
		why, explained := equivalents[m.rule+": "+plain(m.what)]
		if !explained {
			unexplained++
			why = "SURVIVES"
		}
		fmt.Fprintf(out, "%s\n  %s\n", m, why)
	}
	killed := len(all) - len(survivors)
	fmt.Fprintf(out, "mutants=%d killed=%d equivalent=%d rate=%.1f%%\n", len(all), killed, len(survivors)-unexplained,
		100*float64(killed)/float64(max(1, len(all)-len(survivors)+unexplained)))
	if unexplained > 0 {
		return errSurvivors
	}
	return nil
}

// survivors tests every mutant and returns those that no test notices, in their order.
func survivors(ctx context.Context, promtool string, workers int, files []rules.File, all []mutant) ([]mutant, error) {
	tmp, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	group.Go(func() error {
		defer close(next)
		for i := range all {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	var mu sync.Mutex
	var alive []int
	for w := range workers {
		group.Go(func() error {
			tester, err := rules.NewTester(promtool, filepath.Join(tmp, fmt.Sprint(w)), files, os.DirFS(filepath.Join(dir, "tests")))
			if err != nil {
				return err
			}
			for i := range next {
				killed, err := kill(ctx, tester, all[i])
				if err != nil {
					return fmt.Errorf("%s: %w", all[i], err)
				}
				if !killed {
					mu.Lock()
					alive = append(alive, i)
					mu.Unlock()
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(alive)
	var left []mutant
	for _, i := range alive {
		left = append(left, all[i])
	}
	return left, nil
}

// kill runs the tests that can notice a mutant: those of the alerts that stand on it.
func kill(ctx context.Context, t *rules.Tester, m mutant) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, alert := range rules.Alerts([]rules.File{m.file}) {
		f := m.file.For(alert.Alert)
		if !f.Has(m.rule) {
			continue
		}
		passed, _, err := t.TestWith(ctx, f, alert.Alert)
		if err != nil || !passed {
			return err == nil, err
		}
	}
	return false, nil
}
