package providersim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Faults are what goes wrong for every call but those of the administration, and how long the slow
// cards take. The zero value is a provider that is well.
type Faults struct {
	// Latency is added to every call.
	Latency Duration `json:"latency"`
	// ErrorRate is the share of calls, 0 to 1, that are answered with 500 and do nothing.
	ErrorRate float64 `json:"error_rate"`
	// LostReplyRate is the share of calls, 0 to 1, that do what they are to do and are answered with
	// 500 nevertheless.
	LostReplyRate float64 `json:"lost_reply_rate"`
	// Slow is what tok_slow takes. 0 means 2 seconds.
	Slow Duration `json:"slow"`
	// Late is after how long tok_late authorizes. 0 means 3 seconds.
	Late Duration `json:"late"`
}

func (f *Faults) setDefaults() {
	f.Slow = cmp.Or(f.Slow, Duration(2*time.Second))
	f.Late = cmp.Or(f.Late, Duration(3*time.Second))
}

func (f Faults) validate() error {
	var errs []error
	for name, rate := range map[string]float64{"error_rate": f.ErrorRate, "lost_reply_rate": f.LostReplyRate} {
		if !(rate >= 0 && rate <= 1) {
			errs = append(errs, fmt.Errorf("%s: %v is not between 0 and 1", name, rate))
		}
	}
	for name, d := range map[string]Duration{"latency": f.Latency, "slow": f.Slow, "late": f.Late} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative", name))
		}
	}
	return errors.Join(errs...)
}

// Duration is a time.Duration that JSON has as text: "1.5s".
type Duration time.Duration

// MarshalJSON implements [json.Marshaler].
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (d *Duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(s)
	*d = Duration(parsed)
	return err
}
