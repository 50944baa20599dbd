package drill

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/timescale"
	"github.com/slipwayhq/slipway/ops"
	"github.com/slipwayhq/slipway/ops/rules"
)

// quickOps are the rules and the configuration of ops/ at a time scale.
type quickOps struct {
	rules                                       map[string]rules.Rule
	groupWait, groupInterval, scrape, evaluated time.Duration
}

func readOps(t *testing.T, scale float64) quickOps {
	t.Helper()
	files := fstest.MapFS{}
	for _, pattern := range []string{"prometheus/rules/*.yml", "prometheus/prometheus.yml", "alertmanager/alertmanager.yml"} {
		names, err := fs.Glob(ops.FS, pattern)
		require.NoError(t, err)
		for _, name := range names {
			text, err := fs.ReadFile(ops.FS, name)
			require.NoError(t, err)
			text, err = timescale.File(name, text, scale)
			require.NoError(t, err)
			files[name] = &fstest.MapFile{Data: text}
		}
	}
	read, err := rules.Read(files, "prometheus/rules/*.yml")
	require.NoError(t, err)
	o := quickOps{rules: map[string]rules.Rule{}}
	for _, r := range rules.Rules(read) {
		o.rules[r.Name()] = r
	}
	var alertmanager struct {
		Route struct {
			Wait     string `yaml:"group_wait"`
			Interval string `yaml:"group_interval"`
		}
	}
	require.NoError(t, yaml.Unmarshal(files["alertmanager/alertmanager.yml"].Data, &alertmanager))
	var prometheus struct {
		Global struct {
			Scrape    string `yaml:"scrape_interval"`
			Evaluated string `yaml:"evaluation_interval"`
		}
	}
	require.NoError(t, yaml.Unmarshal(files["prometheus/prometheus.yml"].Data, &prometheus))
	o.groupWait, o.groupInterval = duration(t, alertmanager.Route.Wait), duration(t, alertmanager.Route.Interval)
	o.scrape, o.evaluated = duration(t, prometheus.Global.Scrape), duration(t, prometheus.Global.Evaluated)
	return o
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	if text == "" {
		return 0
	}
	d, err := model.ParseDuration(text)
	require.NoError(t, err, text)
	return time.Duration(d)
}

// takes is how long an alert takes at most from the fault, or from its end, to the pager.
func (o quickOps) takes(t *testing.T, alert string) time.Duration {
	t.Helper()
	r, ok := o.rules[alert]
	require.True(t, ok, alert)
	return o.scrape + 2*o.evaluated + o.window(t, r.Expr) + duration(t, r.For) + duration(t, r.KeepFiringFor) + o.groupWait + o.groupInterval
}

var (
	// memory remembers that something was there once: nothing waits until it is over.
	memory   = regexp.MustCompile(`(last_over_time|absent_over_time)\([^)\[]*\[\w+\]`)
	ranges   = regexp.MustCompile(`\[(\w+)\]`)
	recorded = regexp.MustCompile(`\w+:[\w:]+`)
)

// window is the range that an expression looks back over: of what must hold together the shortest, since the alert
// ends with it; of alternatives the longest.
func (o quickOps) window(t *testing.T, expr string) (longest time.Duration) {
	t.Helper()
	expr = strings.ReplaceAll(memory.ReplaceAllString(expr, "$1("), " unless ", " and ")
	for _, alternative := range operands(expr, "or") {
		shortest := time.Duration(-1)
		for _, part := range operands(alternative, "and") {
			var whole time.Duration
			for _, m := range ranges.FindAllStringSubmatch(part, -1) {
				whole = max(whole, duration(t, m[1]))
			}
			for _, name := range recorded.FindAllString(part, -1) {
				whole = max(whole, o.window(t, o.rules[name].Expr))
			}
			if shortest < 0 || whole < shortest {
				shortest = whole
			}
		}
		longest = max(longest, shortest)
	}
	return longest
}

// operands splits an expression at an operator that is not in brackets.
func operands(expr, operator string) (parts []string) {
	depth, from := 0, 0
	words := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(expr))
	for i, w := range words {
		switch {
		case w == "(":
			depth++
		case w == ")":
			depth--
		case w == operator && depth == 0:
			parts, from = append(parts, strings.Join(words[from:i], " ")), i+1
		}
	}
	return append(parts, strings.Join(words[from:], " "))
}

// A drill that waits for less than its alerts take cannot pass at any speed. In real time most did when what is
// waited for was the same at every time scale.
func TestDrills_waitLongEnough(t *testing.T) {
	t.Parallel()
	asIs := readOps(t, 1)
	for alert, want := range map[string]time.Duration{
		"HighErrorRate": 5 * time.Minute, "RelayFenced": 10 * time.Minute, "PlaceOrderBurnRateSlow": 30 * time.Minute,
		"PlaceOrderBurnRateTicket": 6 * time.Hour, "ServiceAbsent": 0, "DeadLettersGrowing": 0, "DependencyDown": 0,
	} {
		require.Equal(t, want, asIs.window(t, asIs.rules[alert].Expr), "the window of %s", alert)
	}
	for _, scale := range []float64{1, 6, quick} {
		o, c := readOps(t, scale), Config{TimeScale: scale}
		for _, d := range Drills() {
			for _, a := range d.names() {
				if d.heartbeat {
					continue
				}
				require.Greater(t, d.patience(c), o.takes(t, a), "%s, %s, at a time scale of %g", d.Name, a, scale)
			}
		}
	}
}

// A fault that is taken away before Alertmanager delivers shows nothing of what is silenced.
func TestDrills_holdTheFaultUntilAllIsDelivered(t *testing.T) {
	t.Parallel()
	for _, scale := range []float64{1, 6, quick} {
		o, c := readOps(t, scale), Config{TimeScale: scale}
		require.Greater(t, c.stretch(held), o.evaluated+o.groupWait+c.stretch(2*time.Second), "at a time scale of %g", scale)
	}
}
