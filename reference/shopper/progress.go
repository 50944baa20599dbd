package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"
)

// showProgress shows how far the run is until the returned function is called: as a bar on a
// terminal, as one line a second elsewhere.
func (s *shopper) showProgress(w io.Writer) (stop func()) {
	if file, ok := w.(*os.File); ok && cwriter.IsTerminal(int(file.Fd())) {
		return s.showBar(file)
	}
	return s.showLines(w, time.Second)
}

func (s *shopper) showLines(w io.Writer, every time.Duration) (stop func()) {
	begin := time.Now()
	return loop(every, func() {
		fmt.Fprintf(w, "%3.0fs %s\n", time.Since(begin).Seconds(), s.status())
	})
}

// showBar draws a bar that is full when every order was placed and read back.
func (s *shopper) showBar(w io.Writer) (stop func()) {
	container := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	bar := container.AddBar(int64(2*s.opts.orders),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return s.status() })))
	update := func() {
		bar.SetCurrent(s.counts.placed.Load() + s.counts.failed.Load() + s.counts.readByID.Load())
	}
	end := loop(100*time.Millisecond, update)
	return func() {
		end()
		update()
		bar.Abort(false)
		container.Wait()
	}
}

// status is where the run is, in one line.
func (s *shopper) status() string {
	c := &s.counts
	text := fmt.Sprintf("%s: %d of %d placed, %d failed, %d retries",
		c.phase.Load(), c.placed.Load(), s.opts.orders, c.failed.Load(), c.retries.Load())
	switch c.phase.Load() {
	case phaseWatching:
		text += fmt.Sprintf(", waiting for %d", c.watching.Load())
	case phaseReading:
		text += fmt.Sprintf(", %d read back", c.readByID.Load())
	}
	return text
}

// loop calls f every so often until the returned function is called.
func loop(every time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				f()
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}
