package rig

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Participant is who the steps of all sagas are called at. It does nothing but remember
// the calls. Its methods may be called concurrently.
type Participant struct {
	mu      sync.Mutex
	sagas   map[string]*visits
	rejects bool
	held    chan struct{} // calls of step two wait until it is closed
	calls   int
}

// Visit is a call: when it came, and from which process.
type Visit struct {
	At time.Time
	By string
}

// visits are the calls for one saga.
type visits struct {
	all  map[string][]Visit // by step
	over chan time.Time
}

// NewParticipant returns one that accepts everything.
func NewParticipant() *Participant { return &Participant{sagas: make(map[string]*visits)} }

// Reset forgets all calls. From here the participant rejects step three, or not.
func (p *Participant) Reset(rejects bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sagas, p.rejects, p.calls = make(map[string]*visits), rejects, 0
}

// Expect returns a channel that gets the time of the saga's last call.
func (p *Participant) Expect(saga string) <-chan time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(saga).over
}

// of needs the lock.
func (p *Participant) of(saga string) *visits {
	v := p.sagas[saga]
	if v == nil {
		v = &visits{all: make(map[string][]Visit, 3), over: make(chan time.Time, 1)}
		p.sagas[saga] = v
	}
	return v
}

// Hold makes calls of step two wait until Release.
func (p *Participant) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
}

// Release lets go of what Hold keeps, and of what comes later.
func (p *Participant) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.held)
	p.held = nil
}

// Call is a call of a step. It is a StepFunc.
func (p *Participant) Call(ctx context.Context, saga, step string) error {
	return p.call(ctx, saga, step, "")
}

func (p *Participant) call(ctx context.Context, saga, step, by string) error {
	held, rejected := p.visit(saga, step, by)
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return fmt.Errorf("wait for release: %w", ctx.Err())
		}
	}
	if rejected {
		return ErrRejected
	}
	return nil
}

func (p *Participant) visit(saga, step, by string) (held chan struct{}, rejected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	v, now, last := p.of(saga), time.Now(), Three
	v.all[step] = append(v.all[step], Visit{now, by})
	if p.rejects {
		last = UndoOne
	}
	if step == last && len(v.all[step]) == 1 {
		v.over <- now
	}
	if step == Two {
		held = p.held
	}
	return held, p.rejects && step == Three
}

// Visits returns the calls of a step, by saga.
func (p *Participant) Visits(step string) map[string][]Visit {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string][]Visit, len(p.sagas))
	for saga, v := range p.sagas {
		if len(v.all[step]) > 0 {
			all[saga] = append([]Visit(nil), v.all[step]...)
		}
	}
	return all
}

// Calls returns how many calls there were, and how many of them repeated another one.
func (p *Participant) Calls() (all, repeated int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	different := 0
	for _, v := range p.sagas {
		different += len(v.all)
	}
	return p.calls, p.calls - different
}

// ServeHTTP answers POST /step/saga?by=process with 200, or 409 for a rejection.
func (p *Participant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	step, saga, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !ok || r.Method != http.MethodPost {
		http.Error(w, "POST /step/saga", http.StatusBadRequest)
		return
	}
	switch err := p.call(r.Context(), saga, step, r.URL.Query().Get("by")); {
	case err == nil:
		_, _ = w.Write([]byte("{}"))
	case r.Context().Err() != nil: // nobody reads the answer
	default:
		http.Error(w, "FAILURE", http.StatusConflict)
	}
}

// Serve lets the participant listen on loopback. The function ends that.
func (p *Participant) Serve() (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen for steps: %w", err)
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // it ends with Close
	}()
	return "http://" + l.Addr().String(), func() {
		_ = server.Close()
		<-ended
	}, nil
}
