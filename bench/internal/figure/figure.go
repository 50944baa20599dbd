// Package figure turns what was measured into the lines that a benchmark prints.
package figure

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Median returns the middle of values, the mean of the two middle ones if their
// number is even, and 0 of none.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Spread returns how far values lie apart, as a share of their median: 0.1 for 95,
// 100 and 105.
func Spread(values []float64) float64 {
	middle := Median(values)
	if middle == 0 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / middle
}

// PairedRatio returns the median of the ratios of each pair. What disturbs the
// machine for a while disturbs both of a pair.
func PairedRatio(values, base []float64) float64 {
	return Median(ratios(values, base))
}

// PairedSpread returns the spread of the ratios of each pair.
func PairedSpread(values, base []float64) float64 {
	return Spread(ratios(values, base))
}

// PairedInterval returns the two of the ratios of each pair between which the true median is
// with a confidence of 95 %, whatever the distribution: the interval of the sign test. Fewer
// than six pairs give no such confidence, and the smallest and the largest ratio.
func PairedInterval(values, base []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(ratios(values, base)))
	n := len(sorted)
	if n == 0 {
		return 0, 0
	}
	// below is the probability that of n ratios at most cut are below the median.
	cut, chance := -1, math.Pow(0.5, float64(n))
	for below := chance; below <= 0.025; below += chance {
		cut++
		chance *= float64(n-cut) / float64(cut+1)
	}
	cut = max(cut, 0)
	return sorted[cut], sorted[n-1-cut]
}

func ratios(values, base []float64) []float64 {
	var all []float64
	for i := range min(len(values), len(base)) {
		if base[i] != 0 {
			all = append(all, values[i]/base[i])
		}
	}
	return all
}

// Percentile returns the smallest value that at least p percent of values do not
// exceed, and 0 of none.
func Percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}

// Line is the result of a benchmark: its id and pairs of keys and values.
type Line struct {
	text strings.Builder
	keys map[string]bool
}

// NewLine begins the line of a benchmark.
func NewLine(id string) *Line {
	l := &Line{keys: make(map[string]bool)}
	l.text.WriteString(id)
	return l
}

// Text adds a pair. What would break the line apart becomes an underscore. A key
// that is there already is a mistake of the benchmark and panics.
func (l *Line) Text(key, value string) *Line {
	if l.keys[key] {
		panic("key twice in a line: " + key)
	}
	l.keys[key] = true
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r <= ' ' || r == '=' {
				return '_'
			}
			return r
		}, s)
	}
	fmt.Fprintf(&l.text, " %s=%s", clean(key), clean(value))
	return l
}

// Int adds a whole number.
func (l *Line) Int(key string, n int) *Line { return l.Text(key, fmt.Sprint(n)) }

// Rate adds a number of things a second, without decimals.
func (l *Line) Rate(key string, v float64) *Line { return l.Text(key, fmt.Sprintf("%.0f", v)) }

// Ratio adds a number with three decimals.
func (l *Line) Ratio(key string, v float64) *Line { return l.Text(key, fmt.Sprintf("%.3f", v)) }

// Millis adds a duration in milliseconds. The key says so: it should end in _ms.
func (l *Line) Millis(key string, d time.Duration) *Line {
	return l.Text(key, fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1e6))
}

// String returns the line.
func (l *Line) String() string { return l.text.String() }
