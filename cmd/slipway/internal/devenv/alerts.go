package devenv

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

// alerts receives what Alertmanager sends, in the place of a pager, and shows it among
// the log.
type alerts struct {
	url    string
	server *http.Server
}

// notification is what Alertmanager posts to a webhook.
type notification struct {
	Alerts []struct {
		Status      string
		Labels      map[string]string
		Annotations map[string]string
	}
}

func receiveAlerts(ctx context.Context, c *console.Console) (*alerts, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for alerts: %w", err)
	}
	a := &alerts{
		url:    "http://" + l.Addr().String(),
		server: &http.Server{Handler: showAlerts(c), ReadHeaderTimeout: 5 * time.Second},
	}
	go func() { _ = a.server.Serve(l) }()
	return a, nil
}

// maxNotification bounds what is read of one, in bytes.
const maxNotification = 1 << 20

func showAlerts(c *console.Console) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var n notification
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNotification)).Decode(&n); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, a := range n.Alerts {
			if severity := a.Labels["severity"]; severity != "none" { // the heartbeat says nothing
				c.Notef("  ! alert %s %s (%s): %s", a.Labels["alertname"], a.Status, cmp.Or(severity, "no severity"), a.Annotations["summary"])
			}
		}
	}
}

func (a *alerts) stop() error { return a.server.Close() }
