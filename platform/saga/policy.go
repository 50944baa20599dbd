package saga

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"time"
)

// Policy says how often and when a step is tried again. The zero value has the defaults.
type Policy struct {
	// MaxAttempts bounds the attempts, the first one included; default 10, -1 for no bound.
	MaxAttempts int `json:"max_attempts,omitempty"`
	// Initial is the pause after the first attempt; default 100ms. Each further pause is twice as long.
	Initial time.Duration `json:"initial,omitempty"`
	// Max bounds the pause; default 30s, or Initial if that is longer.
	Max time.Duration `json:"max,omitempty"`
}

// jitter is the part of a pause by which it may be shorter, so that sagas that failed together do not come
// back together.
const jitter = 0.25

func (p Policy) withDefaults() Policy {
	p.MaxAttempts = cmp.Or(p.MaxAttempts, 10)
	p.Initial = cmp.Or(p.Initial, 100*time.Millisecond)
	p.Max = max(cmp.Or(p.Max, 30*time.Second), p.Initial)
	return p
}

func (p Policy) validate() error {
	var errs []error
	if p.MaxAttempts < -1 {
		errs = append(errs, fmt.Errorf("max attempts %d is neither positive nor -1", p.MaxAttempts))
	}
	if p.Initial < 0 || p.Max < 0 {
		errs = append(errs, errors.New("a pause is negative"))
	}
	return errors.Join(errs...)
}

func (p Policy) exhausted(attempts int) bool { return p.MaxAttempts > 0 && attempts >= p.MaxAttempts }

// pause returns how long to wait after so many attempts. It depends on nothing but its arguments, so
// that the machine can be simulated; different salts give different pauses.
func (p Policy) pause(attempts int, salt string) time.Duration {
	pause := float64(p.Initial) * math.Pow(2, float64(attempts-1))
	pause = min(pause, float64(p.Max))
	h := fnv.New64a()
	fmt.Fprint(h, salt, attempts)
	spread := float64(h.Sum64()%1024) / 1024 // [0, 1)
	return time.Duration(pause * (1 - jitter*spread))
}
