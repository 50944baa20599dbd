package drill

import (
	"slices"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
)

// Drill is one rehearsal: a fault, and the alerts that must tell of it.
type Drill struct {
	// Name says what is rehearsed; Fault says what is done to the system.
	Name, Fault string
	// Alerts must each fire, be delivered, and resolve after the remedy.
	Alerts []Alert
	// Also may fire as consequences of the fault.
	Also []Alert
	// Silenced fire as consequences and are not delivered, because one of Alerts was.
	Silenced []Alert
	// Lasting names those of Alerts whose window is so long that the other drills go on before
	// they resolve. That they do is awaited at the end.
	Lasting []string
	// Needs are components beside Prometheus and Alertmanager.
	Needs []observe.Component
	// Within is how long the alerts may take to fire, and then to resolve, at a time scale
	// of 60; default two minutes. It is stretched for a smaller one.
	Within time.Duration

	inject fault
	// heartbeat says that the only alert is told by the heartbeat that stays away.
	heartbeat bool
}

// budget are the alerts that a fault leaves behind for as long as their windows are.
var budget = []string{"PlaceOrderBurnRateFast", "PlaceOrderBurnRateSlow", "PlaceOrderBurnRateTicket"}

// blocked are the consequences of a database in which everything waits: of its service, and of
// the others when what has piled up falls on them at once.
var blocked = []string{"HighErrorRate", "SlowRequests", "RequestsHanging", "DBPoolSaturated"}

// missedHeartbeats is for how long, at a time scale of 60, whoever waits for the heartbeat
// does so.
const missedHeartbeats = 15 * time.Second

// Drills lists all drills, in the order in which they run.
func Drills() []Drill {
	return []Drill{
		{
			Name: "tables-locked", Fault: "the tables of order are locked by a session that hangs",
			Alerts:  of("order", slices.Concat(blocked, budget)...),
			Lasting: []string{"PlaceOrderBurnRateTicket"}, Within: 8 * time.Minute,
			Also:   slices.Concat(of("order", "SagaStuck", "SagaCompensationFailed", "CircuitBreakerOpen", "OutboxStalled"), named(blocked...)),
			inject: locked("order"),
		},
		{
			Name: "database-frozen", Fault: "PostgreSQL is stopped in the middle of its work (SIGSTOP)",
			Alerts: slices.Concat(of("order", "DependencyDown"), of("payment", "DependencyDown"), of("inventory", "DependencyDown")),
			Also: slices.Concat(named(blocked...), of("order", budget...), of("order", "CircuitBreakerOpen", "SagaStuck", "SagaCompensationFailed", "OutboxStalled", "OutboxBacklog"),
				labelled("TargetDown", "job", "postgres"), labelled("TargetDown", "job", "slipway")), inject: frozenDatabase(),
		},
		{
			Name: "outbox-paused", Fault: "the relay of order is paused and forgotten",
			Alerts: of("order", "OutboxBacklog", "OutboxStalled"), inject: paused("order"),
		},
		{
			Name: "callee-frozen", Fault: "inventory is stopped in the middle of its work (SIGSTOP)",
			Alerts: of("inventory", "ServiceAbsent"), Silenced: of("inventory", "TargetDown"),
			// Whoever watches an order gives up meanwhile, and what was frozen has taken long when it ends.
			Also: slices.Concat(labelled("CircuitBreakerOpen", "callee", "inventory"), of("order", "SagaStuck", "SagaCompensationFailed", "HighErrorRate"),
				of("inventory", blocked...)), inject: frozen("inventory"),
		},
		{
			Name: "saga-orphaned", Fault: "a saga of a version that no replica has",
			Alerts: of("order", "SagaStuck", "NoWorkerForSagaVersion"), inject: orphaned("order"),
		},
		{
			Name: "connections", Fault: "a job opens connections to PostgreSQL and forgets them",
			Alerts: labelled("HighDBConnectionUsage", "instance", "postgres"), Needs: []observe.Component{observe.PostgresExporter}, inject: crowded("order", 0.9),
		},
		{
			Name: "poison", Fault: "a message that no consumer can read",
			Alerts: slices.Concat(of("payment", "DeadLettersGrowing"), of("inventory", "DeadLettersGrowing")),
			inject: poisoned("order.confirmed", "payment", "inventory"),
		},
		{
			Name: "lease-contested", Fault: "the lease of order's relay is taken again and again",
			Alerts: of("order", "RelayFenced"), Also: of("order", "OutboxStalled"), inject: fenced("order", 6),
		},
		{
			Name: "exporter-frozen", Fault: "postgres_exporter is stopped (SIGSTOP)",
			Alerts: labelled("TargetDown", "job", "postgres"), Needs: []observe.Component{observe.PostgresExporter}, inject: frozenComponent(observe.PostgresExporter),
		},
		{
			Name: "collector-away", Fault: "the collector is stopped",
			Alerts: slices.Concat(of("order", "TelemetryDropping"), of("payment", "TelemetryDropping"), of("inventory", "TelemetryDropping")),
			Also:   labelled("TargetDown", "job", "otelcol"), Needs: []observe.Component{observe.Collector}, inject: without(observe.Collector),
		},
		{
			Name: "alerting-away", Fault: "Alertmanager is stopped",
			Alerts: named("Watchdog"), Also: labelled("TargetDown", "job", "alertmanager"), inject: without(observe.Alertmanager), heartbeat: true,
		},
		{
			Name: "callee-blocked", Fault: "the tables of inventory are locked by a session that hangs",
			Alerts: labelled("CircuitBreakerOpen", "callee", "inventory"),
			Also:   slices.Concat(of("order", "SagaStuck", "SagaCompensationFailed"), named(blocked...)), inject: locked("inventory", "order"),
		},
		{
			Name: "undo-blocked", Fault: "the tables of payment are locked by a session that hangs",
			Alerts: of("order", "SagaCompensationFailed"),
			Also:   slices.Concat(labelled("CircuitBreakerOpen", "callee", "payment"), of("order", "SagaStuck"), named(blocked...)), inject: locked("payment", "order"),
		},
	}
}

// names lists the names of the drill's alerts.
func (d Drill) names() (all []string) {
	for _, a := range d.Alerts {
		if !slices.Contains(all, a.Name) {
			all = append(all, a.Name)
		}
	}
	return all
}

// lasts tells whether an alert is one of those that last.
func (d Drill) lasts(a Alert) bool { return slices.Contains(d.Lasting, a.Name) }

// burns tells whether the fault uses up the error budget.
func (d Drill) burns() bool {
	return slices.ContainsFunc(slices.Concat(d.Alerts, d.Also), func(a Alert) bool { return a.Name == budget[0] })
}

// Alerts lists every alert that some drill fires.
func Alerts() []string {
	var all []string
	for _, d := range Drills() {
		all = append(all, d.names()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
