package ops_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops/rules"
)

const alertmanagerConfig = "alertmanager/alertmanager.yml"

// patience is for how long a slow machine may take, and tick how often a test looks.
const (
	patience = time.Minute
	tick     = 50 * time.Millisecond
)

func TestAlertmanager_routes(t *testing.T) {
	t.Parallel()
	receivers := map[string]string{"page": "pager", "ticket": "tickets", "none": "heartbeat"}
	for name, amtool := range tools(t, "amtool") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			route := func(labels ...string) string {
				args := append([]string{"config", "routes", "test", "--config.file", alertmanagerConfig}, labels...)
				out, err := exec.Command(amtool, args...).Output()
				require.NoError(t, err)
				return strings.TrimSpace(string(out))
			}
			for _, r := range rules.Alerts(readRules(t, "prometheus/rules/*.yml")) {
				severity := r.Labels["severity"]
				if strings.Contains(severity, "{{") {
					continue
				}
				require.Equal(t, receivers[severity], route("alertname="+r.Alert, "severity="+severity, "service=order"), r.Alert)
			}
			for _, severity := range []string{"page", "ticket"} {
				require.Equal(t, receivers[severity], route("alertname=DependencyDown", "severity="+severity))
			}
			require.Equal(t, "tickets", route("alertname=Unheard"), "what has no severity is read by somebody")
		})
	}
}

// labels of an alert.
type labels = map[string]string

func about(alert string, more ...string) labels {
	l := labels{"alertname": alert, "severity": "page"}
	for i := 0; i < len(more); i += 2 {
		l[more[i]] = more[i+1]
	}
	return l
}

func TestAlertmanager_inhibits(t *testing.T) {
	t.Parallel()
	absent := about("ServiceAbsent", "service", "order", "callee", "order")
	down := func(dependency string) labels {
		return about("DependencyDown", "service", "order", "callee", "order", "dependency", dependency)
	}
	for _, c := range []struct {
		name            string
		cause           labels
		silenced, heard []labels
	}{
		{
			"a service that is gone silences what follows", absent,
			[]labels{
				about("TargetDown", "service", "order", "instance", "order-1"), about("HighErrorRate", "service", "order"), about("SagaStuck", "service", "order"),
				about("OutboxStalled", "service", "order", "sink", "broker"), about("PlaceOrderBurnRateFast", "service", "order"), down("postgres"),
				about("CircuitBreakerOpen", "service", "payment", "callee", "order"),
			},
			[]labels{
				absent, about("HighErrorRate", "service", "payment"), about("CircuitBreakerOpen", "service", "payment", "callee", "inventory"),
				about("TargetDown", "instance", "db"), about("DeadLettersGrowing", "service", "order"), about("HighDBConnectionUsage", "instance", "db"), about("Watchdog"),
			},
		},
		{
			"a database that is away silences what follows", down("postgres"),
			[]labels{
				about("HighErrorRate", "service", "order"), about("SlowRequests", "service", "order"), about("DBPoolSaturated", "service", "order"), about("SagaStuck", "service", "order"),
				about("SagaCompensationFailed", "service", "order"), about("OutboxBacklog", "service", "order"), about("PlaceOrderBurnRateSlow", "service", "order"),
				about("CircuitBreakerOpen", "service", "payment", "callee", "order"),
			},
			[]labels{
				down("postgres"), down("redis"), about("HighErrorRate", "service", "payment"), about("TelemetryDropping", "service", "order"),
				about("CircuitBreakerOpen", "service", "order", "callee", "payment"), about("TargetDown", "service", "order"), about("Watchdog"),
			},
		},
		{
			"a broker that is away silences the outbox", down("nats"),
			[]labels{about("OutboxBacklog", "service", "order"), about("OutboxStalled", "service", "order")},
			[]labels{about("HighErrorRate", "service", "order"), about("OutboxStalled", "service", "payment"), about("SagaStuck", "service", "order")},
		},
		{
			// The service that is gone too shows when both have been taken note of. Tried without the matchers on
			// the labels of the cause.
			"that nothing is monitored silences nothing of the stack", absent,
			[]labels{about("TargetDown", "service", "order", "instance", "order-1")},
			[]labels{
				about("ServiceAbsent", "job", "slipway"), about("TargetDown", "job", "loki", "instance", "loki"),
				about("TelemetryDropping", "job", "otelcol"), about("CircuitBreakerOpen", "name", "bank"),
			},
		},
		{
			"a cache that is away silences nothing", down("redis"), nil,
			[]labels{about("HighErrorRate", "service", "order"), about("OutboxStalled", "service", "order"), about("CircuitBreakerOpen", "service", "payment", "callee", "order")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := startAlertmanager(t)
			fire(t, url, append(slices.Concat(c.silenced, c.heard), c.cause)...)
			for _, a := range c.silenced {
				require.Eventually(t, func() bool { return inhibited(t, url, a) }, patience, tick, "%v", a)
			}
			for _, a := range c.heard {
				require.False(t, inhibited(t, url, a), "%v", a)
			}
		})
	}
}

// startAlertmanager runs our configuration and returns the address.
func startAlertmanager(t *testing.T) string {
	t.Helper()
	tools := append(rules.Tools("..", "alertmanager"), rules.Tools("..", "prometheus-alertmanager")...)
	if len(tools) == 0 {
		t.Skip("no alertmanager on this machine: install it, or build it with: make stack")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	var out bytes.Buffer
	cmd := exec.Command(tools[0], "--config.file", alertmanagerConfig, "--storage.path", t.TempDir(), "--cluster.listen-address=", "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, patience, tick)
	return "http://" + addr
}

func fire(t *testing.T, url string, alerts ...labels) {
	t.Helper()
	var body []map[string]labels
	for _, a := range alerts {
		body = append(body, map[string]labels{"labels": a})
	}
	text, err := json.Marshal(body)
	require.NoError(t, err)
	answer, err := http.Post(url+"/api/v2/alerts", "application/json", bytes.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

// inhibited says whether another alert keeps this one from being delivered.
func inhibited(t *testing.T, url string, alert labels) bool {
	t.Helper()
	answer, err := http.Get(url + "/api/v2/alerts")
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	var known []struct {
		Labels labels
		Status struct{ InhibitedBy []string }
	}
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&known))
	for _, k := range known {
		if fmt.Sprint(k.Labels) == fmt.Sprint(alert) {
			return len(k.Status.InhibitedBy) > 0
		}
	}
	require.Fail(t, "there is no such alert", "%v", alert)
	return false
}
