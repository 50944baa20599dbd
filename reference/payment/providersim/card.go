package providersim

import (
	"strconv"
	"strings"
)

// behaviour is what a card token makes of an authorization.
type behaviour int

const (
	accepts behaviour = iota
	declines
	breaks      // answers 500, never with an effect
	flakes      // the same at the first attempts
	lingers     // answers after a while
	hangs       // authorizes and does not answer
	hangsUndone // neither authorizes nor answers
	isLate      // answers 504 and authorizes after a while
)

// flakyAttempts is how often tok_flaky fails. tok_flaky_5 fails five times.
const flakyAttempts = 2

// card is what is known of a card by its token.
type card struct {
	behaviour behaviour
	// reason says why the card is declined.
	reason string
	// failures is how many attempts fail.
	failures int
}

// cardOf reads a token. A token that means nothing is as good as tok_ok.
func cardOf(token string) card {
	name, ok := strings.CutPrefix(token, "tok_")
	if !ok {
		return card{}
	}
	switch name {
	case "declined":
		return card{behaviour: declines, reason: "declined"}
	case "insufficient_funds", "expired_card", "stolen_card":
		return card{behaviour: declines, reason: name}
	case "error":
		return card{behaviour: breaks}
	case "flaky":
		return card{behaviour: flakes, failures: flakyAttempts}
	case "slow":
		return card{behaviour: lingers}
	case "timeout":
		return card{behaviour: hangs}
	case "timeout_lost":
		return card{behaviour: hangsUndone}
	case "late":
		return card{behaviour: isLate}
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "flaky_")); err == nil && strings.HasPrefix(name, "flaky_") {
		return card{behaviour: flakes, failures: n}
	}
	return card{}
}
