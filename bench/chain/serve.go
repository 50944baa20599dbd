package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/process"
)

// usage is what a server's process has used since it started.
type usage struct {
	CPU     time.Duration // user and system
	Mallocs uint64
	Bytes   uint64
}

func currentUsage() (any, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return nil, fmt.Errorf("read CPU time: %w", err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{
		CPU:     time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		Mallocs: m.Mallocs,
		Bytes:   m.TotalAlloc,
	}, nil
}

// serve is what the started processes do: serve one variant, tell where, and answer questions
// about the usage until their input ends.
func serve(ctx context.Context, o options) error {
	v, err := variantNamed(o.serve)
	if err != nil {
		return err
	}
	addr, stop, err := v.start(ctx, v.name, o.collector)
	if err != nil {
		return err
	}
	answer := currentUsage
	if o.out != "" {
		cpu, err := os.Create(o.out + ".cpu.pprof")
		if err != nil {
			return fmt.Errorf("create profile: %w", err)
		}
		defer cpu.Close()
		answer = profiled(cpu, answer)
	}
	err = process.Serve(os.Stdin, os.Stdout, addr, answer)
	if o.out != "" {
		pprof.StopCPUProfile()
		err = errors.Join(err, writeAllocations(o.out+".allocs.pprof"))
	}
	return errors.Join(err, stop())
}

// profiled starts the CPU profile with the first question, which comes after the warm-up.
func profiled(cpu *os.File, answer func() (any, error)) func() (any, error) {
	started := false
	return func() (any, error) {
		if !started {
			started = true
			if err := pprof.StartCPUProfile(cpu); err != nil {
				return nil, fmt.Errorf("start profile: %w", err)
			}
		}
		return answer()
	}
}

func writeAllocations(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("create profile: %w", err)
	}
	defer f.Close()
	return pprof.Lookup("allocs").WriteTo(f, 0)
}
