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
	// Alerts must fire, be delivered, and resolve after the remedy.
	Alerts []string
	// Also may fire as consequences of the fault.
	Also []string
	// Silenced fire as consequences and are not delivered, because one of Alerts was.
	Silenced []string
	// Lasting are those of Alerts whose window is so long that the other drills go on before
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

// blocked are the consequences of a database in which everything waits.
var blocked = []string{"HighErrorRate", "SlowRequests", "RequestsHanging", "DBPoolSaturated", "CircuitBreakerOpen"}

// missedHeartbeats is for how long, at a time scale of 60, whoever waits for the heartbeat
// does so.
const missedHeartbeats = 15 * time.Second

// Drills lists all drills, in the order in which they run.
func Drills() []Drill {
	return []Drill{
		{
			Name: "tables-locked", Fault: "the tables of order are locked by a session that hangs",
			Alerts:  append([]string{"HighErrorRate", "SlowRequests", "RequestsHanging", "DBPoolSaturated"}, budget...),
			Lasting: []string{"PlaceOrderBurnRateTicket"}, Within: 8 * time.Minute,
			Also: []string{"SagaStuck", "SagaCompensationFailed", "CircuitBreakerOpen", "OutboxStalled"}, inject: locked("order"),
		},
		{
			Name: "database-frozen", Fault: "PostgreSQL is stopped in the middle of its work (SIGSTOP)",
			Alerts: []string{"DependencyDown"},
			Also:   slices.Concat(blocked, budget, []string{"SagaStuck", "SagaCompensationFailed", "OutboxStalled", "OutboxBacklog", "TargetDown"}), inject: frozenDatabase(),
		},
		{
			Name: "outbox-paused", Fault: "the relay of order is paused and forgotten",
			Alerts: []string{"OutboxBacklog", "OutboxStalled"}, inject: paused("order"),
		},
		{
			Name: "callee-frozen", Fault: "inventory is stopped in the middle of its work (SIGSTOP)",
			Alerts: []string{"ServiceAbsent"}, Silenced: []string{"TargetDown"},
			Also: []string{"CircuitBreakerOpen", "SagaStuck", "SagaCompensationFailed"}, inject: frozen("inventory"),
		},
		{
			Name: "saga-orphaned", Fault: "a saga of a version that no replica has",
			Alerts: []string{"SagaStuck", "NoWorkerForSagaVersion"}, inject: orphaned("order"),
		},
		{
			Name: "connections", Fault: "a job opens connections to PostgreSQL and forgets them",
			Alerts: []string{"HighDBConnectionUsage"}, Needs: []observe.Component{observe.PostgresExporter}, inject: crowded("order", 0.9),
		},
		{
			Name: "poison", Fault: "a message that no consumer can read",
			Alerts: []string{"DeadLettersGrowing"}, inject: poisoned("order.confirmed", "payment", "inventory"),
		},
		{
			Name: "lease-contested", Fault: "the lease of order's relay is taken again and again",
			Alerts: []string{"RelayFenced"}, Also: []string{"OutboxStalled"}, inject: fenced("order", 6),
		},
		{
			Name: "exporter-frozen", Fault: "postgres_exporter is stopped (SIGSTOP)",
			Alerts: []string{"TargetDown"}, Needs: []observe.Component{observe.PostgresExporter}, inject: frozenComponent(observe.PostgresExporter),
		},
		{
			Name: "collector-away", Fault: "the collector is stopped",
			Alerts: []string{"TelemetryDropping"}, Also: []string{"TargetDown"},
			Needs: []observe.Component{observe.Collector}, inject: without(observe.Collector),
		},
		{
			Name: "alerting-away", Fault: "Alertmanager is stopped",
			Alerts: []string{"Watchdog"}, Also: []string{"TargetDown"}, inject: without(observe.Alertmanager), heartbeat: true,
		},
		{
			Name: "undo-blocked", Fault: "the tables of payment are locked by a session that hangs",
			Alerts: []string{"CircuitBreakerOpen", "SagaCompensationFailed"}, Also: append([]string{"SagaStuck"}, blocked...), inject: locked("payment"),
		},
	}
}

// Alerts lists every alert that some drill fires.
func Alerts() []string {
	var all []string
	for _, d := range Drills() {
		all = append(all, d.Alerts...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
