package providersim

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

// State is where a charge is.
type State string

// The states of a charge. All but authorized and captured are final.
const (
	StateAuthorized State = "authorized"
	StateDeclined   State = "declined"
	StateVoided     State = "voided"
	StateCaptured   State = "captured"
	StateRefunded   State = "refunded"

	stateNone State = "none" // in answers about keys that are not known
)

// Charge is what the provider has under a key.
type Charge struct {
	Key    string `json:"key,omitempty"`
	State  State  `json:"state"`
	Amount Amount `json:"amount,omitzero"`
	// Reason says why the charge was declined.
	Reason string `json:"reason,omitempty"`
}

var (
	errNoCharge    = errors.New("there is no charge under this key")
	errState       = errors.New("the charge is in a state that does not allow this")
	errOtherAmount = errors.New("the charge under this key has another amount")
)

// charges are the charges of a ledger. Calls of one key wait for each other; what one returns is on
// the disk.
type charges struct {
	ledger *Ledger
	now    func() time.Time

	seed maphash.Seed
	keys [256]sync.Mutex // a charge is changed under the lock of its key

	mu    sync.RWMutex
	byKey map[string]Charge
}

func newCharges(l *Ledger, now func() time.Time) *charges {
	c := &charges{ledger: l, now: now, seed: maphash.MakeSeed(), byKey: map[string]Charge{}}
	for _, e := range l.Entries() {
		c.byKey[e.Key] = Charge{Key: e.Key, State: State(e.Effect), Amount: e.Amount, Reason: e.Reason}
	}
	return c
}

// lock makes the caller the only one to deal with a key.
func (c *charges) lock(key string) (unlock func()) {
	m := &c.keys[maphash.String(c.seed, key)%uint64(len(c.keys))]
	m.Lock()
	return m.Unlock
}

func (c *charges) get(key string) (Charge, error) {
	defer c.lock(key)()
	return c.peek(key)
}

func (c *charges) peek(key string) (Charge, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, ok := c.byKey[key]
	if !ok {
		return Charge{}, errNoCharge
	}
	return found, nil
}

// authorize opens a charge, held or declined, unless there is one: then that is returned.
func (c *charges) authorize(key string, amount Amount, declined string) (Charge, error) {
	defer c.lock(key)()
	found, err := c.peek(key)
	if err == nil {
		return found, sameAmount(found, amount)
	}
	opened := Charge{Key: key, State: StateAuthorized, Amount: amount}
	if declined != "" {
		opened.State, opened.Reason = StateDeclined, declined
	}
	return c.store(opened)
}

func (c *charges) void(key string) (Charge, error) {
	return c.move(key, StateAuthorized, StateVoided, nil)
}

func (c *charges) capture(key string, amount Amount) (Charge, error) {
	return c.move(key, StateAuthorized, StateCaptured, &amount)
}

func (c *charges) refund(key string, amount Amount) (Charge, error) {
	return c.move(key, StateCaptured, StateRefunded, &amount)
}

// move changes the state of a charge from one to the next. A charge that has made the move already is
// returned as it is; one that cannot make it is returned with errState.
func (c *charges) move(key string, from, to State, amount *Amount) (Charge, error) {
	defer c.lock(key)()
	found, err := c.peek(key)
	if err != nil {
		return Charge{}, err
	}
	if amount != nil {
		if err := sameAmount(found, *amount); err != nil {
			return found, err
		}
	}
	if found.State == to {
		return found, nil
	}
	if found.State != from {
		return found, errState
	}
	found.State = to
	return c.store(found)
}

// store is called with the key's lock.
func (c *charges) store(ch Charge) (Charge, error) {
	err := c.ledger.Append(Entry{Effect: Effect(ch.State), Key: ch.Key, Amount: ch.Amount, Reason: ch.Reason, At: c.now().UTC()})
	if err != nil {
		return Charge{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byKey[ch.Key] = ch
	return ch, nil
}

func sameAmount(ch Charge, amount Amount) error {
	if ch.Amount != amount {
		return errOtherAmount
	}
	return nil
}
