package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

// report prints a table to read and a line a variant to grep.
func report(w io.Writer, o options, subjects []*subject, spans *collector) {
	fmt.Fprintf(w, "unary echo of %d B, %d connections, %d calls in flight, %d interleaved rounds of %d calls\n",
		o.payload, o.connections, o.concurrent, o.rounds, o.calls)
	fmt.Fprintf(w, "%s %s/%s, %d CPUs; server CPU is user and system time of its process\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Fprintf(w, "%-16s %28s %12s %12s\n", "variant", "server CPU us/call", "allocs/call", "bytes/call")
	for _, s := range subjects {
		cpu := s.figure(func(c cost) float64 { return microseconds(c.cpu) })
		fmt.Fprintf(w, "%-16s %8.1f [%6.1f .. %6.1f] %12.1f %12.0f   %s\n", s.name, cpu.median, cpu.min, cpu.max,
			s.figure(allocs).median, s.figure(bytes).median, s.about)
	}
	fmt.Fprintln(w)
	for _, s := range subjects {
		fmt.Fprintln(w, s.line(subjects, spans, o))
	}
}

func (s *subject) line(subjects []*subject, spans *collector, o options) string {
	cpu := s.figure(func(c cost) float64 { return microseconds(c.cpu) })
	text := fmt.Sprintf("chain variant=%s cpu_us=%.1f cpu_us_min=%.1f cpu_us_max=%.1f allocs=%.1f bytes=%.0f calls_s=%.0f",
		s.name, cpu.median, cpu.min, cpu.max, s.figure(allocs).median, s.figure(bytes).median,
		s.figure(func(c cost) float64 { return c.rate }).median)
	for _, base := range subjects {
		if base.name == bare || base.name == usual || base.name == lean {
			text += fmt.Sprintf(" ratio_%s=%.2f allocs_ratio_%s=%.2f",
				base.name, s.ratio(base), base.name, s.figure(allocs).median/base.figure(allocs).median)
		}
	}
	if s.traced {
		text += fmt.Sprintf(" sampled=%.3f", float64(spans.spans(s.name))/float64(o.warmup+o.rounds*o.calls))
	}
	return text
}

// figure is a quantity over all rounds.
type figure struct{ median, min, max float64 }

func (s *subject) figure(of func(cost) float64) figure {
	values := make([]float64, len(s.costs))
	for i, c := range s.costs {
		values[i] = of(c)
	}
	return figure{median(values), slices.Min(values), slices.Max(values)}
}

// ratio compares CPU round by round, so that a slow minute of the machine counts for both.
func (s *subject) ratio(base *subject) float64 {
	values := make([]float64, len(s.costs))
	for i := range s.costs {
		values[i] = float64(s.costs[i].cpu) / float64(base.costs[i].cpu)
	}
	return median(values)
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

func allocs(c cost) float64                { return c.allocs }
func bytes(c cost) float64                 { return c.bytes }
func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
