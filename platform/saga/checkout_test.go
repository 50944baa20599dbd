package saga_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagatest"
)

// shop holds what the checkout is about, at its participants. Requests on their way arrive after some
// further calls, or when everything is over.
type shop struct {
	stock, payment participant
	confirmed      bool
	sealed         bool // whoever asked was told that the order is not confirmed and never will be
	cancelled      bool

	script map[string]script
	calls  map[string]int
	late   []lateRequest
}

type lateRequest struct {
	after int // calls
	do    func()
}

// script says what becomes of the calls of a step. Each byte is a call: "." succeeds, "r" is rejected,
// "t" may be tried again, "u" fails unknown without effect, "e" fails unknown with its effect, "1" to
// "9" fail unknown and have their effect so many calls later. The last one is repeated.
type script string

func (s script) at(n int) byte { return s[min(n, len(s)-1)] }

var errAnswer = errors.New("no answer")

// call plays a call; effect reports whether it was refused.
func (s *shop) call(name string, effect func() (refused bool)) error {
	s.pass()
	do := s.script[name]
	if do == "" {
		do = "."
	}
	what := do.at(s.calls[name])
	s.calls[name]++
	switch what {
	case 'r':
		return saga.Rejected(errAnswer)
	case 't':
		return saga.Retryable(errAnswer)
	case 'u':
		return errAnswer
	case 'e':
		effect()
		return errAnswer
	case '.':
		if effect() {
			return saga.Rejected(errors.New("undone already"))
		}
		return nil
	default:
		s.late = append(s.late, lateRequest{int(what - '0'), func() { effect() }})
		return errAnswer
	}
}

// pass lets requests arrive whose time has come.
func (s *shop) pass() {
	due := s.late
	s.late = nil
	for _, l := range due {
		if l.after--; l.after > 0 {
			s.late = append(s.late, l)
		} else {
			l.do()
		}
	}
}

func (s *shop) act(name string, p *participant) saga.Func[struct{}] {
	return func(context.Context, *saga.Call[struct{}]) error {
		return s.call(name, func() bool {
			p.happened = p.happened || !p.undone
			return p.undone
		})
	}
}

func (s *shop) undo(name string, p *participant) saga.Func[struct{}] {
	return func(context.Context, *saga.Call[struct{}]) error {
		return s.call(name, func() bool {
			p.undone = true
			return false
		})
	}
}

// confirm and cancel are transactions on one row.
func (s *shop) confirm(context.Context, *saga.Call[struct{}]) error {
	return s.call("confirm-order", func() bool {
		s.confirmed = s.confirmed || !s.sealed && !s.cancelled
		return !s.confirmed
	})
}

func (s *shop) cancel(context.Context, *saga.Call[struct{}]) error {
	return s.call("cancel-order", func() bool {
		s.cancelled = !s.confirmed
		return s.confirmed
	})
}

func (s *shop) checkout(verified bool) *saga.Definition[struct{}] {
	few := saga.Policy{MaxAttempts: 3}
	authorize := saga.Step("authorize-payment", s.act("authorize-payment", &s.payment)).Retry(few).
		Undo("void-payment", s.undo("void-payment", &s.payment)).UndoRetry(few)
	confirm := saga.Pivot("confirm-order", s.confirm).Retry(few)
	if verified {
		authorize.Verify(func(context.Context, *saga.Call[struct{}]) (happened bool, err error) {
			err = s.call("verify-payment", func() bool { return false })
			return s.payment.effective(), err
		})
		confirm.Verify(func(context.Context, *saga.Call[struct{}]) (bool, error) {
			if err := s.call("verify-order", func() bool { return false }); err != nil {
				return false, err
			}
			s.sealed = !s.confirmed
			return s.confirmed, nil
		})
	}
	return saga.Define("checkout", 1,
		saga.Undo("cancel-order", s.cancel).UndoRetry(few),
		saga.Step("reserve-stock", s.act("reserve-stock", &s.stock)).Retry(few).
			Undo("release-stock", s.undo("release-stock", &s.stock)).UndoRetry(few),
		authorize, confirm,
	).Timeout(time.Hour)
}

// hold fails unless the saga ended as it says, in all places.
func (s *shop) hold(t *testing.T, r *sagatest.Result[struct{}], what string) {
	t.Helper()
	switch r.Status {
	case saga.Completed:
		require.True(t, s.confirmed && s.stock.effective() && s.payment.effective() && !s.cancelled, what)
	case saga.Compensated:
		require.True(t, s.cancelled && !s.confirmed && !s.stock.effective() && !s.payment.effective(), what)
	default:
		t.Fatalf("%s: it ends %s", what, r.Status)
	}
}

// TestCheckout goes through every failure of every step, each with every failure of every undo, and of
// the verifications, and a crash at every step.
func TestCheckout(t *testing.T) {
	t.Parallel()
	forward := []script{".", "r", "t", "u", "e", "t.", "u.", "e.", "ur", "er", "et", "1r", "2r", "3r", "5r", "9r", "1", "2", "5", "9", "19."}
	undos := []script{".", "t.", "uu.", "ee.", "ttt", "uuu", "eee", "r", "1.", "3.", "111"}
	verifies := []script{".", "u.", "u"}
	crashes := [][]string{nil, {"reserve-stock"}, {"authorize-payment", "authorize-payment"}, {"confirm-order"}, {"release-stock"}, {"void-payment"}, {"cancel-order"}}
	if testing.Short() || raced {
		crashes = crashes[:2]
	}
	ends := map[saga.Status]int{}
	number := 0
	for _, step := range []string{"reserve-stock", "authorize-payment", "confirm-order"} {
		for _, failure := range forward {
			for _, undo := range []string{"cancel-order", "release-stock", "void-payment"} {
				for _, undoFailure := range undos {
					for _, verify := range append(verifies, "") {
						for _, crash := range crashes {
							scripts := map[string]script{step: failure, undo: undoFailure, "verify-payment": verify, "verify-order": verify}
							ends[runCheckout(t, scripts, verify != "", crash)]++
							number++
						}
					}
				}
			}
		}
	}
	t.Logf("%d checkouts: %v", number, ends)
	for _, end := range []saga.Status{saga.Completed, saga.Compensated, saga.NeedsOperator} {
		require.Positive(t, ends[end], end)
	}
}

// runCheckout returns how a checkout ended before the operator came.
func runCheckout(t *testing.T, scripts map[string]script, verified bool, crash []string) saga.Status {
	t.Helper()
	var first saga.Status
	commands := []saga.EventKind{saga.OperatorRetry, saga.OperatorCompensate}
	for _, command := range commands {
		what := fmt.Sprintf("%v, crashes %v, command %d", scripts, crash, command)
		s := &shop{script: scripts, calls: map[string]int{}}
		r := sagatest.Run(t, s.checkout(verified), struct{}{}, sagatest.Crash(crash...))
		first = r.Status
		if r.Status == saga.NeedsOperator {
			s.script = nil
			for len(s.late) > 0 {
				s.pass()
			}
			if command == saga.OperatorCompensate && (r.Instance.Backward || s.confirmed) {
				break // not the command for this
			}
			s.sealed = s.sealed || command == saga.OperatorCompensate
			r.Operate(command)
		}
		for len(s.late) > 0 {
			s.pass()
		}
		s.hold(t, r, what)
		if first != saga.NeedsOperator {
			break
		}
	}
	return first
}
