package console

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Progress shows what is under way: every step ends with a line that says how
// long it took. Until then a terminal shows it in a live line; elsewhere a line
// says that it began.
type Progress struct {
	console *Console

	mu      sync.Mutex
	running []*Step
	stop    chan struct{} // ends the redrawing; nil while nothing runs
	drawn   sync.WaitGroup
}

// Progress returns a display of steps. One at a time should be in use.
func (c *Console) Progress() *Progress { return &Progress{console: c} }

// Step is something that takes long. One of its methods Done and Fail must be
// called.
type Step struct {
	progress *Progress
	name     string
	began    time.Time
}

// Start begins a step such as "building order".
func (p *Progress) Start(name string) *Step {
	s := &Step{progress: p, name: name, began: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, s)
	if !p.console.live {
		p.console.Notef("  … %s", name)
	} else if p.stop == nil {
		stop := make(chan struct{})
		p.stop = stop
		p.drawn.Go(func() { p.draw(stop) })
	}
	return s
}

// Done ends the step with its result.
func (s *Step) Done(format string, args ...any) { s.end("✓", fmt.Sprintf(format, args...)) }

// Fail ends the step without one; its error is for the caller to report.
func (s *Step) Fail() { s.end("✗", s.name) }

func (s *Step) end(mark, text string) {
	p := s.progress
	p.mu.Lock()
	p.running = slices.DeleteFunc(p.running, func(r *Step) bool { return r == s })
	if len(p.running) == 0 && p.stop != nil {
		close(p.stop)
		p.stop = nil
		p.drawn.Wait()
	}
	p.mu.Unlock()
	p.console.Notef("  %s %s (%s)", mark, text, seconds(time.Since(s.began)))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// maxStatus keeps the live line on one line of a narrow terminal: a wrapped one
// could not be erased.
const maxStatus = 78

// draw redraws the live line until stop is closed.
func (p *Progress) draw(stop <-chan struct{}) {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	defer p.console.show("")
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if line, ok := p.line(); ok {
			p.console.show(fmt.Sprintf("  %c %s", frames[i%len(frames)], line))
		}
	}
}

// line describes the running steps. It gives up when the last step is just
// ending: that one waits for draw and holds the lock.
func (p *Progress) line() (string, bool) {
	if !p.mu.TryLock() {
		return "", false
	}
	defer p.mu.Unlock()
	parts := make([]string, len(p.running))
	for i, s := range p.running {
		parts[i] = fmt.Sprintf("%s %.0f s", s.name, time.Since(s.began).Seconds())
	}
	runes := []rune(strings.Join(parts, " · "))
	if len(runes) > maxStatus {
		runes = append(runes[:maxStatus-1], '…')
	}
	return string(runes), true
}
