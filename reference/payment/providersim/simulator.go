package providersim

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	maxBody = 16 << 10 // of a request
	forever = Duration(24 * time.Hour)
)

// Simulator is the provider. It is safe for concurrent use.
type Simulator struct {
	charges *charges
	mux     *http.ServeMux

	closed chan struct{} // ends calls that hang, and what is to happen later
	once   sync.Once
	later  sync.WaitGroup

	mu       sync.Mutex
	faults   Faults
	attempts map[string]int  // of the flaky cards, by key
	coming   map[string]bool // keys that are to be authorized late
}

// New returns a provider with the charges of a ledger, which stays the caller's.
func New(l *Ledger) *Simulator {
	s := &Simulator{
		charges: newCharges(l, time.Now), mux: http.NewServeMux(), closed: make(chan struct{}),
		attempts: map[string]int{}, coming: map[string]bool{},
	}
	s.faults.setDefaults()
	s.mux.HandleFunc("PUT /v1/charges/{key}", s.call(s.authorize))
	s.mux.HandleFunc("GET /v1/charges/{key}", s.call(func(key string, _ request) (Charge, error) { return s.charges.get(key) }))
	s.mux.HandleFunc("POST /v1/charges/{key}/void", s.call(func(key string, _ request) (Charge, error) { return s.charges.void(key) }))
	s.mux.HandleFunc("POST /v1/charges/{key}/capture", s.call(func(key string, r request) (Charge, error) {
		return s.charges.capture(key, r.Amount)
	}))
	s.mux.HandleFunc("POST /v1/charges/{key}/refund", s.call(func(key string, r request) (Charge, error) {
		return s.charges.refund(key, r.Amount)
	}))
	s.mux.HandleFunc("GET /ledger", s.showLedger)
	s.mux.HandleFunc("GET /admin/faults", s.showFaults)
	s.mux.HandleFunc("PUT /admin/faults", s.changeFaults)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// SetFaults has calls go wrong from now on. It refuses rates that are none.
func (s *Simulator) SetFaults(f Faults) error {
	if err := f.validate(); err != nil {
		return err
	}
	f.setDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
	return nil
}

// Close ends the calls that hang, drops what is to be authorized late, and waits for what is being
// written.
func (s *Simulator) Close() {
	s.once.Do(func() { close(s.closed) })
	s.later.Wait()
}

// request is the body of a call; calls without one leave it empty.
type request struct {
	Amount    Amount `json:"amount"`
	CardToken string `json:"card_token"`
}

// errors that are answered with a status, or with none.
var (
	errBroken   = errors.New("something is broken")
	errGateway  = errors.New("the bank does not answer")
	errHang     = errors.New("no answer")
	errNoAmount = errors.New("there is no amount to authorize")
)

// call is a call of a client: it is late or wrong as the faults say, else answered.
func (s *Simulator) call(do func(key string, r request) (Charge, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req request
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil && len(body) > 0 {
			err = json.Unmarshal(body, &req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f := s.current()
		s.wait(r, f.Latency)
		if rand.Float64() < f.ErrorRate {
			answer(w, Charge{}, errBroken)
			return
		}
		ch, err := do(r.PathValue("key"), req)
		if cardOf(req.CardToken).behaviour == lingers {
			s.wait(r, f.Slow)
		}
		if errors.Is(err, errHang) {
			s.wait(r, forever)
		}
		if rand.Float64() < f.LostReplyRate {
			err = errBroken
		}
		answer(w, ch, err)
	}
}

// authorize does what the token says. A charge that exists is returned, but for cards that hang.
func (s *Simulator) authorize(key string, r request) (Charge, error) {
	c := cardOf(r.CardToken)
	if r.Amount.Minor < 1 || len(r.Amount.Currency) != 3 {
		return Charge{}, errNoAmount
	}
	if c.behaviour != accepts && c.behaviour != hangs {
		if found, err := s.charges.get(key); err == nil {
			return found, sameAmount(found, r.Amount)
		}
	}
	switch c.behaviour {
	case breaks:
		return Charge{}, errBroken
	case flakes:
		if s.attempt(key) <= c.failures {
			return Charge{}, errBroken
		}
	case hangsUndone:
		return Charge{}, errHang
	case isLate:
		s.authorizeLate(key, r.Amount)
		return Charge{}, errGateway
	case hangs:
		if _, err := s.charges.authorize(key, r.Amount, ""); err != nil {
			return Charge{}, err
		}
		return Charge{}, errHang
	default:
	}
	return s.charges.authorize(key, r.Amount, c.reason)
}

// authorizeLate opens the charge after a while, unless that is coming already.
func (s *Simulator) authorizeLate(key string, amount Amount) {
	s.mu.Lock()
	known := s.coming[key]
	s.coming[key] = true
	late := time.Duration(s.faults.Late)
	s.mu.Unlock()
	if known {
		return
	}
	s.later.Go(func() {
		timer := time.NewTimer(late)
		defer timer.Stop()
		select {
		case <-timer.C:
			_, _ = s.charges.authorize(key, amount, "")
		case <-s.closed:
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.coming, key)
	})
}

func (s *Simulator) attempt(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[key]++
	return s.attempts[key]
}

func (s *Simulator) current() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// wait cuts the client off when the simulator is closed before.
func (s *Simulator) wait(r *http.Request, d Duration) {
	if d == 0 {
		return
	}
	timer := time.NewTimer(time.Duration(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-s.closed:
		panic(http.ErrAbortHandler)
	}
}
