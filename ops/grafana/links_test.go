package grafana_test

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops/grafana"
)

// alert is a rule of Prometheus, as far as people follow its links.
type alert struct {
	Alert       string
	Annotations struct {
		Runbook   string `yaml:"runbook_url"`
		Dashboard string
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	dashboards, err := grafana.Dashboards()
	require.NoError(t, err)
	known := map[string]bool{} // what a link may lead to
	for _, d := range dashboards {
		known["/d/"+d.UID] = true
	}
	all := alerts(t)

	t.Run("of alerts lead to dashboards", func(t *testing.T) {
		t.Parallel()
		for _, a := range all {
			require.True(t, known[a.Annotations.Dashboard], "%s: there is no dashboard %s", a.Alert, a.Annotations.Dashboard)
		}
	})

	t.Run("of panels lead to dashboards and to runbooks of alerts", func(t *testing.T) {
		t.Parallel()
		runbooks := map[string]bool{}
		for _, a := range all {
			runbooks[a.Annotations.Runbook] = true
		}
		for _, d := range dashboards {
			for _, p := range d.Panels {
				for _, l := range p.Links {
					require.True(t, known[l.URL] || runbooks[l.URL], "%s/%s: %s leads nowhere", d.UID, p.Title, l.URL)
				}
			}
		}
	})

	t.Run("lead from each alert's dashboard to its runbook", func(t *testing.T) {
		t.Parallel()
		linked := map[string]bool{}
		for _, d := range dashboards {
			for _, p := range d.Panels {
				for _, l := range p.Links {
					linked["/d/"+d.UID+" "+l.URL] = true
				}
			}
		}
		for _, a := range all {
			if a.Alert == "Watchdog" { // it says nothing
				continue
			}
			require.True(t, linked[a.Annotations.Dashboard+" "+a.Annotations.Runbook], "%s: no panel of %s links to %s", a.Alert, a.Annotations.Dashboard, path.Base(a.Annotations.Runbook))
		}
	})
}

// alerts reads those of all rule files.
func alerts(t *testing.T) []alert {
	t.Helper()
	files, err := filepath.Glob("../prometheus/rules/*.yml")
	require.NoError(t, err)
	var all []alert
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var doc struct{ Groups []struct{ Rules []alert } }
		require.NoError(t, yaml.Unmarshal(text, &doc), file)
		for _, g := range doc.Groups {
			for _, r := range g.Rules {
				if r.Alert != "" {
					all = append(all, r)
				}
			}
		}
	}
	require.NotEmpty(t, all, "no alerts in %s", strings.Join(files, ", "))
	return all
}
