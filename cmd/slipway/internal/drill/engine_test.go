package drill

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// world stands in for a system, its Prometheus and its Alertmanager: alerts fire five seconds after a fault,
// and end two seconds after it.
type world struct {
	pager  *receiver
	faulty bool
	since  time.Time
	shown  map[string]bool
	// fires are the alerts that a fault causes; delivered those that reach the pager, default all.
	fires, delivered []string
	// late are delivered only some time after they fire.
	late map[string]time.Duration
	// after come up only some time after the fault is over, for a second.
	after map[string]time.Duration
	// always are there all the time.
	always []string
	// last is how long alerts last after the fault, other than two seconds.
	last map[string]time.Duration
	// stays says that alerts outlive the fault.
	stays bool
	// over is when the fault ends by itself.
	over time.Time
	// beats says that the heartbeat arrives.
	beats  bool
	failed error     // of asking
	down   time.Time // from then on every question fails
}

func (w *world) set(faulty bool) { w.faulty, w.since = faulty, time.Now() }

func (w *world) alerts(context.Context) (all []firing, err error) {
	if w.failed != nil {
		err, w.failed = w.failed, nil
		return nil, err
	}
	if !w.down.IsZero() && time.Now().After(w.down) {
		return nil, errors.New("Prometheus is away")
	}
	if w.beats {
		notify(w.pager, heartbeatReceiver, map[string]string{"alertname": "Watchdog"}, "firing")
	}
	if w.faulty && !w.over.IsZero() && time.Now().After(w.over) {
		w.set(false)
	}
	names := slices.Clone(w.always)
	age := time.Since(w.since)
	for _, name := range w.fires {
		last := 2 * time.Second
		if longer, ok := w.last[name]; ok {
			last = longer
		}
		if w.faulty && age > 5*time.Second || !w.faulty && w.shown[name] && (age < last || w.stays) {
			names = append(names, name)
		}
	}
	for name, delay := range w.after {
		if !w.faulty && age > delay && age < delay+time.Second {
			names = append(names, name)
		}
	}
	for _, name := range w.fires {
		if now := slices.Contains(names, name); now != w.shown[name] {
			w.shown[name] = now
			time.AfterFunc(w.late[name], func() { w.deliver(name, now) })
		}
	}
	for _, name := range names {
		all = append(all, firing{State: "firing", Value: "7", Labels: w.labels(name)})
	}
	return append(all, firing{State: "firing", Labels: map[string]string{"alertname": "Watchdog", "severity": "none"}}), nil
}

// labels are those of an alert of the world, about order if it does not name another service: SagaStuck/payment.
func (w *world) labels(name string) map[string]string {
	alert, service, _ := strings.Cut(name, "/")
	return map[string]string{"alertname": alert, "service": cmp.Or(service, "order"), "severity": "page"}
}

func (w *world) deliver(name string, firing bool) {
	if w.delivered != nil && !slices.Contains(w.delivered, name) {
		return
	}
	notify(w.pager, "pager", w.labels(name), map[bool]string{true: "firing", false: "resolved"}[firing])
}

func notify(to http.Handler, path string, labels map[string]string, status string) int {
	text, err := json.Marshal(map[string]any{"alerts": []any{map[string]any{"status": status, "labels": labels}}})
	if err != nil {
		panic(err)
	}
	answer := httptest.NewRecorder()
	to.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/"+path, bytes.NewReader(text)))
	return answer.Code
}

// rehearsal is a drill of SagaStuck, whose runbook mends it, in a world that a test can change.
func rehearsal(change func(w *world, e *engine, d *Drill)) (outcomes []Outcome, seen []firing, followed []string, healed bool) {
	pager := &receiver{delivered: map[string]delivery{}}
	w := &world{pager: pager, beats: true, shown: map[string]bool{}, fires: []string{"SagaStuck"}}
	e := &engine{Config: Config{TimeScale: quick, Progress: func(string, ...any) {}}, system: &System{}, source: w, pager: pager}
	e.sh = func(_ context.Context, script string) error {
		followed = append(followed, script)
		w.set(false)
		return nil
	}
	d := Drill{Name: "saga", Fault: "a saga nobody runs", Alerts: of("order", "SagaStuck"), inject: func(context.Context, *System) (func(context.Context) error, error) {
		w.set(true)
		return func(context.Context) error {
			healed = true
			w.set(false)
			return nil
		}, nil
	}}
	change(w, e, &d)
	outcomes, seen = e.run(context.Background(), d)
	return outcomes, seen, followed, healed
}

func TestEngine_aDrillThatGoesWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outcomes, seen, followed, healed := rehearsal(func(w *world, _ *engine, _ *Drill) { w.failed = errors.New("Prometheus is busy") })
		require.Len(t, outcomes, 1)
		o := outcomes[0]
		require.True(t, o.OK(), o.Failed)
		require.True(t, healed)
		require.Len(t, seen, 1)
		require.Equal(t, "SagaStuck{service=order}", seen[0].id())
		require.InDelta(t, 5, o.Fired.Seconds(), 0.5)
		require.GreaterOrEqual(t, o.Delivered, o.Fired-tick)
		require.InDelta(t, 2, o.Resolved.Seconds(), 0.5)
		require.Equal(t, "SagaStuck{service=order} 7", o.evidence(""))
		require.Contains(t, followed[0], "slipway saga bulk")
		require.Equal(t, "the runbook of SagaStuck", o.EndedBy)
		require.Regexp(t, `^drill SagaStuck fired=5\.\ds delivered=5\.\ds resolved=2\.\ds ok service=order$`, o.String())
	})
}

// An engine that is content with anything proves nothing. Those that are delivered late went well when it was looked
// once, in the moment in which the last alert was seen; those of another service when alerts were told apart by their
// names alone.
func TestEngine_whatFailsADrill(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(w *world, e *engine, d *Drill)
		want   string // empty for a drill that goes well
	}{
		"the alert never fires": {func(w *world, _ *engine, _ *Drill) { w.fires = nil }, "do not fire and reach the pager within 2m0s: none is there"},
		"another one fires":     {func(w *world, _ *engine, _ *Drill) { w.fires = []string{"Other"} }, "do not fire and reach the pager within 2m0s: there are [Other{service=order}]"},
		"it is not delivered":   {func(w *world, _ *engine, _ *Drill) { w.delivered = []string{} }, "do not fire and reach the pager"},
		"it does not resolve":   {func(w *world, _ *engine, _ *Drill) { w.stays = true }, "do not resolve within 2m0s: there are [SagaStuck{service=order}]"},
		"it is there already":   {func(w *world, _ *engine, _ *Drill) { w.always = []string{"SagaStuck"} }, "do not fall silent before the fault"},
		"one fires undeclared":  {func(w *world, _ *engine, _ *Drill) { w.fires = append(w.fires, "Other") }, "Other{service=order} fired, which is not declared"},
		"one fires as declared": {func(w *world, _ *engine, d *Drill) { w.fires, d.Also = append(w.fires, "Other"), named("Other") }, ""},
		"an old one goes on": {func(w *world, e *engine, _ *Drill) {
			w.always, e.burnt = []string{"PlaceOrderBurnRateSlow"}, named(budget...)
		}, ""},
		"of two, one never fires": {func(_ *world, _ *engine, d *Drill) { d.Alerts = append(d.Alerts, of("order", "OutboxStalled")...) }, "do not fire"},
		"two fire": {func(w *world, _ *engine, d *Drill) {
			d.Alerts, w.fires = append(d.Alerts, of("order", "OutboxStalled")...), append(w.fires, "OutboxStalled")
		}, ""},
		"it is of another service": {
			func(w *world, _ *engine, _ *Drill) { w.fires = []string{"SagaStuck/payment"} },
			"do not fire and reach the pager within 2m0s: there are [SagaStuck{service=payment}]",
		},
		"another service has it too": {func(w *world, _ *engine, _ *Drill) { w.fires = append(w.fires, "SagaStuck/payment") }, "SagaStuck{service=payment} fired, which is not declared"},
		"only the other service is told": {func(w *world, _ *engine, d *Drill) {
			w.fires, w.delivered, d.Also = append(w.fires, "SagaStuck/payment"), []string{"SagaStuck/payment"}, named("SagaStuck")
		}, "do not fire and reach the pager"},
		"both services are demanded": {func(w *world, _ *engine, d *Drill) {
			w.fires, d.Alerts = append(w.fires, "SagaStuck/payment"), append(d.Alerts, of("payment", "SagaStuck")...)
		}, ""},
		"of two services, one is silent": {func(_ *world, _ *engine, d *Drill) { d.Alerts = append(d.Alerts, of("payment", "SagaStuck")...) }, "do not fire"},
		"of two services, one stays": {func(w *world, _ *engine, d *Drill) {
			w.fires, d.Alerts = append(w.fires, "SagaStuck/payment"), append(d.Alerts, of("payment", "SagaStuck")...)
			w.last = map[string]time.Duration{"SagaStuck/payment": time.Hour}
		}, "do not resolve within 2m0s: there are [SagaStuck{service=payment}]"},
		"what is silenced is not delivered": {func(w *world, _ *engine, d *Drill) {
			w.fires, w.delivered, d.Silenced = append(w.fires, "TargetDown"), []string{"SagaStuck"}, named("TargetDown")
		}, ""},
		"what is silenced is delivered": {func(w *world, _ *engine, d *Drill) {
			w.fires, d.Silenced = append(w.fires, "TargetDown"), named("TargetDown")
		}, "TargetDown was delivered, although SagaStuck{service=order} says it all"},
		"what is silenced is delivered late": {func(w *world, _ *engine, d *Drill) {
			w.fires, d.Silenced = append(w.fires, "TargetDown"), named("TargetDown")
			w.late = map[string]time.Duration{"TargetDown": 3 * time.Second}
		}, "TargetDown was delivered, although SagaStuck{service=order} says it all"},
		"in real time that takes minutes": {func(w *world, e *engine, d *Drill) {
			e.TimeScale = 1
			w.fires, d.Silenced = append(w.fires, "TargetDown"), named("TargetDown")
			w.late = map[string]time.Duration{"TargetDown": 3 * time.Minute}
		}, "TargetDown was delivered, although SagaStuck{service=order} says it all"},
		"what is silenced never fires": {func(_ *world, _ *engine, d *Drill) { d.Silenced = named("TargetDown") }, "do not fire"},
		"the runbook has no commands": {func(w *world, _ *engine, d *Drill) {
			w.fires, d.Alerts = []string{"TelemetryDropping"}, named("TelemetryDropping")
		}, ""},
		"the runbook does not help": {func(_ *world, e *engine, _ *Drill) { e.sh = func(context.Context, string) error { return nil } }, "do not resolve"},
		"the runbook's command fails": {func(_ *world, e *engine, _ *Drill) {
			e.sh = func(context.Context, string) error { return errors.New("exit status 1") }
		}, "runbook of SagaStuck: exit status 1"},
		"a long window is not waited for": {func(w *world, _ *engine, d *Drill) {
			d.Alerts, d.Lasting, w.fires = append(d.Alerts, named("PlaceOrderBurnRateTicket")...), []string{"PlaceOrderBurnRateTicket"}, append(w.fires, "PlaceOrderBurnRateTicket")
		}, ""},
		"there is no runbook": {func(w *world, _ *engine, d *Drill) { w.fires, d.Alerts = []string{"Other"}, named("Other") }, "read runbook of Other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				outcomes, _, _, healed := rehearsal(c.change)
				for _, o := range outcomes {
					if c.want == "" {
						require.Empty(t, o.Failed)
					} else {
						require.Contains(t, o.Failed, c.want)
						require.Contains(t, o.String(), "FAILED: ")
					}
				}
				require.Equal(t, name != "it is there already", healed, "the fault is taken away whatever happens")
			})
		})
	}
}

// The report says what ended the alerts: of several runbooks it was not told which were followed.
func TestEngine_whatEndsADrill(t *testing.T) {
	t.Parallel()
	for want, alerts := range map[string][]string{
		"the runbook of SagaStuck, then of OutboxStalled": {"SagaStuck", "OutboxStalled", "TelemetryDropping"},
		"taking the fault away":                           {"TelemetryDropping"},
		"nothing: the fault ends by itself":               {"RelayFenced"},
	} {
		synctest.Test(t, func(t *testing.T) {
			outcomes, _, _, _ := rehearsal(func(w *world, _ *engine, d *Drill) {
				w.fires, d.Alerts = alerts, named(alerts...)
				if alerts[0] == "RelayFenced" {
					d.inject = func(context.Context, *System) (func(context.Context) error, error) {
						w.set(true)
						w.over = time.Now().Add(10 * time.Second)
						return nil, nil
					}
				}
			})
			for _, o := range outcomes {
				require.True(t, o.OK(), o.Failed)
				require.Equal(t, want, o.EndedBy)
			}
		})
	}
}

// What comes up when the declared alerts are over was pending before: it is of the drill. It was forgotten when the
// drill ended with them.
func TestEngine_whatComesUpAfterwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outcomes, seen, _, _ := rehearsal(func(w *world, _ *engine, _ *Drill) {
			w.after = map[string]time.Duration{"Other": 3 * time.Second} // SagaStuck is over after two
		})
		require.Contains(t, outcomes[0].Failed, "Other{service=order} fired, which is not declared")
		require.Len(t, seen, 2)
	})
}

// An alert that comes again while others are waited for is over when it is over for good. The time of the first end was
// told.
func TestEngine_oneThatComesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outcomes, _, _, _ := rehearsal(func(w *world, _ *engine, d *Drill) {
			w.fires, d.Alerts = append(w.fires, "OutboxStalled"), append(d.Alerts, of("order", "OutboxStalled")...)
			w.last = map[string]time.Duration{"OutboxStalled": 10 * time.Second}
			w.after = map[string]time.Duration{"SagaStuck": 5 * time.Second}
		})
		require.True(t, outcomes[0].OK(), outcomes[0].Failed)
		require.InDelta(t, 6, outcomes[0].Resolved.Seconds(), 0.5)
	})
}

// Nothing fires in a system that has no fault: not before the first one, once what the start has raised is over, and
// not while the last alerts are waited for. Nobody looked then. What nobody can see is not quiet: a Prometheus that fell
// silent was.
func TestEngine_withoutAFault(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(w *world)
		want   string
	}{
		"nothing fires":       {func(*world) {}, ""},
		"the start did":       {func(w *world) { w.after = map[string]time.Duration{"Other": 0} }, ""},
		"one fires":           {func(w *world) { w.after = map[string]time.Duration{"Other": 10 * time.Second} }, "Other{service=order} fired, which is not declared"},
		"one stays":           {func(w *world) { w.always = []string{"Other"} }, "do not fall silent after the start within 2m0s: there are [Other{service=order}]"},
		"the budget is burnt": {func(w *world) { w.always = budget[:1] }, "PlaceOrderBurnRateFast{service=order} fired"},
		"nobody answers":      {func(w *world) { w.down = time.Now().Add(time.Second) }, "do not fall silent"},
		"no heartbeat comes":  {func(w *world) { w.beats = false }, "do not fall silent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pager := &receiver{delivered: map[string]delivery{}}
				w := &world{pager: pager, beats: true, since: time.Now()}
				c.change(w)
				e := &engine{Config: Config{TimeScale: quick, Progress: func(string, ...any) {}}, system: &System{}, source: w, pager: pager}
				outcomes := e.healthy(t.Context())
				if c.want == "" {
					require.Empty(t, outcomes)
					require.True(t, e.calm)
					return
				}
				require.Len(t, outcomes, 1)
				require.Contains(t, outcomes[0].Failed, c.want)
				require.Contains(t, outcomes[0].String(), "drill no-fault FAILED: ")
			})
		})
	}
}

// A window of hours remembers an earlier fault; one that burnt nothing gives no licence.
func TestEngine_theErrorBudget(t *testing.T) {
	t.Parallel()
	for _, burnt := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			outcomes, _, _, _ := rehearsal(func(w *world, e *engine, d *Drill) {
				first := *d
				first.Also = named("PlaceOrderBurnRateSlow")
				if burnt {
					first.Also = named(budget...)
				}
				_, _ = e.run(t.Context(), first)
				w.fires = append(w.fires, "PlaceOrderBurnRateSlow")
			})
			require.Equal(t, burnt, outcomes[0].OK(), outcomes[0].Failed)
		})
	}
}

// What has a window of hours is waited for when everything else is done. Nothing else fires meanwhile.
func TestEngine_settle(t *testing.T) {
	t.Parallel()
	const ticket = "PlaceOrderBurnRateTicket"
	for name, c := range map[string]struct {
		within  time.Duration
		another bool
		want    string
	}{
		"it ends":                     {within: 8 * time.Minute},
		"it does not end in time":     {within: 2 * time.Minute, want: "do not resolve within 2m0s"},
		"another one fires meanwhile": {within: 8 * time.Minute, another: true, want: "Other{service=order} fired, which is not declared"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var e *engine
				outcomes, _, _, _ := rehearsal(func(w *world, of *engine, d *Drill) {
					e = of
					w.fires, w.last = []string{"SagaStuck", ticket}, map[string]time.Duration{ticket: 5 * time.Minute}
					d.Alerts, d.Also, d.Lasting, d.Within = named(w.fires...), named(budget...), []string{ticket}, c.within
					if c.another {
						w.after = map[string]time.Duration{"Other": time.Minute}
					}
				})
				require.Len(t, outcomes, 1)
				require.Equal(t, "SagaStuck", outcomes[0].Alert.Name)
				require.True(t, outcomes[0].OK(), outcomes[0].Failed)
				settled := e.settle(t.Context())
				require.Equal(t, ticket, settled[0].Alert.Name)
				if c.want != "" {
					require.Contains(t, fmt.Sprint(settled), c.want)
					return
				}
				require.Len(t, settled, 1)
				require.True(t, settled[0].OK(), settled[0].Failed)
				require.InDelta(t, 300, settled[0].Resolved.Seconds(), 5)
			})
		})
	}
}

func TestEngine_aFaultThatCannotBePutIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		healed := false
		outcomes, _, _, _ := rehearsal(func(_ *world, _ *engine, d *Drill) {
			d.inject = func(context.Context, *System) (func(context.Context) error, error) {
				return func(context.Context) error { healed = true; return nil }, errors.New("half of it is in")
			}
		})
		require.Contains(t, outcomes[0].Failed, "put the fault in: half of it is in")
		require.True(t, healed)
	})
}

// What waits for the heartbeat tells that Alertmanager is away: it cannot say so itself. At a tenth of the
// speed it waits ten times as long.
func TestEngine_theHeartbeatStaysAway(t *testing.T) {
	t.Parallel()
	for scale, wait := range map[float64]time.Duration{600: missedHeartbeats, quick: missedHeartbeats, 6: 10 * missedHeartbeats} {
		synctest.Test(t, func(t *testing.T) {
			outcomes, _, _, _ := rehearsal(func(w *world, e *engine, d *Drill) {
				w.fires = nil
				e.sh, e.TimeScale = nil, scale
				d.Alerts, d.heartbeat = named("Watchdog"), true
				d.inject = func(context.Context, *System) (func(context.Context) error, error) {
					w.beats = false
					return func(context.Context) error { w.beats = true; return nil }, nil
				}
			})
			require.Empty(t, outcomes[0].Failed)
			require.InDelta(t, wait.Seconds(), outcomes[0].Fired.Seconds(), 1)
		})
	}
}

func TestEngine_endsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pager := &receiver{delivered: map[string]delivery{}}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		e := &engine{Config: Config{TimeScale: quick, Progress: func(string, ...any) {}}, system: &System{}, source: &world{pager: pager, beats: true}, pager: pager}
		healed := false
		outcomes, _ := e.run(ctx, Drill{Name: "saga", Alerts: of("order", "SagaStuck"), inject: func(context.Context, *System) (func(context.Context) error, error) {
			return func(ctx context.Context) error { healed = true; return ctx.Err() }, nil
		}})
		require.Equal(t, context.DeadlineExceeded.Error(), outcomes[0].Failed)
		require.True(t, healed, "also when it is interrupted, with a context that still works")
	})
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	r, err := listen(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, r.close()) }()
	require.Equal(t, http.StatusBadRequest, func() int {
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/pager", strings.NewReader("no JSON")))
		return answer.Code
	}())
	began := time.Now()
	require.Empty(t, r.told(Alert{Name: "SagaStuck"}, began))
	answer, err := http.Post(r.url+"/tickets", "application/json",
		strings.NewReader(`{"alerts": [{"status": "firing", "labels": {"alertname": "SagaStuck", "service": "order"}}]}`))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	stuck := of("order", "SagaStuck")[0]
	require.Len(t, r.told(stuck, began), 1)
	require.Len(t, r.told(Alert{Name: "SagaStuck"}, began), 1)
	require.Empty(t, r.told(of("payment", "SagaStuck")[0], began), "it is another service")
	require.Empty(t, r.told(stuck, time.Now()), "it was told before")
	require.Zero(t, r.told(stuck, began)[0].resolved)
	require.Equal(t, http.StatusOK, notify(r, "pager", map[string]string{"alertname": "SagaStuck", "service": "order"}, "resolved"))
	require.True(t, r.told(stuck, began)[0].resolved.After(began))
	require.Greater(t, r.silence(), time.Hour, "no heartbeat has come")
}
