package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a System that calls the steps and forgets everything in the end.
type memory struct {
	mu     sync.Mutex
	counts Counts
	call   StepFunc
	sagas  sync.WaitGroup
	broken error
}

func (m *memory) Start(ctx context.Context, id string) error {
	if m.broken != nil {
		return m.broken
	}
	m.count(func(c *Counts) { c.Active++ })
	ctx = context.WithoutCancel(ctx)
	m.sagas.Go(func() {
		undone, _ := Run(func(step string) error { return m.call(ctx, id, step) })
		m.count(func(c *Counts) {
			c.Active--
			if undone {
				c.Undone++
			} else {
				c.Done++
			}
		})
	})
	return nil
}

func (m *memory) count(change func(c *Counts)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.counts)
}

func (m *memory) Counts(context.Context) (Counts, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts, nil
}

func (m *memory) Close() { m.sagas.Wait() }

func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reject, want string
		undone       bool
	}{
		{"", "one two three", false},
		{Three, "one two three undo-two undo-one", true},
		{Two, "one two undo-one", true},
	} {
		var calls []string
		undone, err := Run(func(step string) error {
			calls = append(calls, step)
			if step == c.reject {
				return ErrRejected
			}
			return nil
		})
		if err != nil || undone != c.undone || strings.Join(calls, " ") != c.want {
			t.Errorf("rejecting %q: %v, %v, %v", c.reject, calls, undone, err)
		}
	}
}

func TestLoad_Run(t *testing.T) {
	t.Parallel()
	for _, rejects := range []bool{false, true} {
		p := NewParticipant()
		url, stop, err := p.Serve()
		if err != nil {
			t.Fatal(err)
		}
		call, closeAll := Remote(url, "me")
		m := &memory{call: call}
		r, err := Load{Clients: 3, Warm: 20 * time.Millisecond, Length: 50 * time.Millisecond, Rejects: rejects}.Run(t.Context(), m, p)
		steps := 3
		if rejects {
			steps = 5
		}
		if err != nil || r.Sagas == 0 || len(r.Micros) != r.Sagas || r.Calls != steps*r.Sagas || r.Repeated != 0 || r.Wrong != 0 {
			t.Errorf("rejects %v: %d sagas, %d calls, %d repeated, %d wrong, %v", rejects, r.Sagas, r.Calls, r.Repeated, r.Wrong, err)
		}
		m.Close()
		closeAll()
		stop()
	}
}

func TestLoad_Run_tells(t *testing.T) {
	t.Parallel()
	t.Run("why a saga was not started", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("no database")
		_, err := Load{Clients: 3, Length: time.Hour}.Run(t.Context(), &memory{broken: broken}, NewParticipant())
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("which sagas have another end than they should", func(t *testing.T) {
		t.Parallel()
		p := NewParticipant()
		m := &memory{call: func(ctx context.Context, saga, step string) error {
			_ = p.Call(ctx, saga, Three) // the participant sees the end before it comes
			return p.Call(ctx, saga, step)
		}}
		m.counts.Done = 7
		r, err := Load{Clients: 1, Length: time.Millisecond}.Run(t.Context(), m, p)
		m.Close()
		if err != nil || r.Wrong != 0 || r.Repeated == 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestParticipant(t *testing.T) {
	t.Parallel()
	p := NewParticipant()
	url, stop, err := p.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	call, closeAll := Remote(url, "replica-1")
	defer closeAll()
	t.Run("counts what is repeated, and by whom", func(t *testing.T) {
		for range 2 {
			if err := call(t.Context(), "a", One); err != nil {
				t.Fatal(err)
			}
		}
		if all, repeated := p.Calls(); all != 2 || repeated != 1 {
			t.Errorf("%d calls, %d repeated", all, repeated)
		}
		if v := p.Visits(One)["a"]; len(v) != 2 || v[1].By != "replica-1" {
			t.Errorf("visits %v", v)
		}
	})
	t.Run("holds the second step", func(t *testing.T) {
		p.Hold()
		answered := make(chan error, 1)
		go func() { answered <- call(t.Context(), "b", Two) }()
		for len(p.Visits(Two)) == 0 {
			time.Sleep(time.Millisecond)
		}
		select {
		case err := <-answered:
			t.Fatalf("answered: %v", err)
		default:
		}
		p.Release()
		if err := <-answered; err != nil {
			t.Error(err)
		}
	})
	t.Run("rejects the third, and tells of the last undo", func(t *testing.T) {
		p.Reset(true)
		over := p.Expect("c")
		if err := call(t.Context(), "c", Three); !errors.Is(err, ErrRejected) {
			t.Errorf("got %v", err)
		}
		if err := call(t.Context(), "c", UndoOne); err != nil {
			t.Error(err)
		}
		<-over
	})
}

func TestServe(t *testing.T) {
	t.Parallel()
	var questions, answers bytes.Buffer
	in := json.NewEncoder(&questions)
	ids := []string{NewID(), NewID(), NewID()}
	for _, q := range []Question{{Start: ids, Clients: 2}, {Load: &Load{Clients: 1, Length: time.Millisecond}, Counts: true}} {
		if err := in.Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	var steps []string
	open := func(_ context.Context, o Options, url string, call StepFunc) (System, error) {
		steps = append(steps, o.System, url)
		return &memory{call: call}, nil
	}
	if err := Serve(t.Context(), Options{System: "memory", Local: true}, open, &questions, &answers); err != nil {
		t.Fatal(err)
	}
	out := json.NewDecoder(&answers)
	var pid int
	var first, second Answer
	for _, v := range []any{&pid, &first, &second} {
		if err := out.Decode(v); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(steps, []string{"memory", ""}) || pid == 0 || first.Error != "" || second.Report.Sagas == 0 ||
		second.Counts.Done < len(ids) {
		t.Errorf("opened %v, pid %d, answers %+v, %+v", steps, pid, first, second)
	}
}
