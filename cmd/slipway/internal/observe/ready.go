package observe

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

// await waits until the component says that it is ready.
func (s *Stack) await(ctx context.Context, c Component, r *instance) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	port := s.opts.Ports.of(c)
	if c == Collector {
		port = s.opts.Ports.CollectorHealth
	}
	url := "http://" + loopback(port) + programs[c].ready
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		answer := ask(ctx, url)
		if answer == ready {
			return nil
		}
		select {
		case <-tick.C:
		case <-r.process.Done():
			return s.ended(c, r)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %s answers %q; its log is %s", c, ctx.Err(), url, answer, r.log.Name())
		}
	}
}

const ready = "200 OK"

// client keeps no connection: each question stands alone.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// askTimeout bounds one question: whoever else has the port may not answer at all.
const askTimeout = 2 * time.Second

// ask returns the status that a GET is answered with, or why it is not.
func ask(ctx context.Context, url string) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	return resp.Status
}

// logLines is how many lines of a log explain why a component ended.
const logLines = 5

// ended describes the end of a component that nobody stopped.
func (s *Stack) ended(c Component, r *instance) error {
	how := "with exit code 0"
	if err := r.process.Err(); err != nil {
		how = "with " + err.Error()
	}
	return fmt.Errorf("%s (%s) ended by itself, %s; its log %s ends with:\n%s", c, s.found[c], how, r.log.Name(), lastLines(r.log.Name()))
}

func lastLines(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "(no log)"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}

// step shows a part of the start, if anybody wants to see it.
type step struct{ shown *console.Step }

func (s *Stack) step(name string) step {
	if s.opts.Progress == nil {
		return step{}
	}
	return step{s.opts.Progress.Start(name)}
}

func (s step) done(format string, args ...any) {
	if s.shown != nil {
		s.shown.Done(format, args...)
	}
}

func (s step) fail() {
	if s.shown != nil {
		s.shown.Fail()
	}
}
