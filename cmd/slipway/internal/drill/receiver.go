package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// heartbeatReceiver is the receiver of Alertmanager that gets the Watchdog.
const heartbeatReceiver = "heartbeat"

// receiver stands in for a pager: it notes when Alertmanager delivers what.
type receiver struct {
	url    string
	server *http.Server

	mu        sync.Mutex
	heartbeat time.Time
	delivered map[string]delivery // by labels
}

// delivery is when an alert was last delivered, in each status.
type delivery struct {
	labels           map[string]string
	firing, resolved time.Time
}

func listen(ctx context.Context) (*receiver, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for alerts: %w", err)
	}
	r := &receiver{url: "http://" + l.Addr().String(), delivered: map[string]delivery{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.server.Serve(l) }()
	return r, nil
}

func (r *receiver) close() error { return r.server.Close() }

// maxNotification bounds what is read of one, in bytes.
const maxNotification = 1 << 20

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var n struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxNotification)).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.TrimPrefix(req.URL.Path, "/") == heartbeatReceiver {
		r.heartbeat = now
	}
	for _, a := range n.Alerts {
		id := show(a.Labels["alertname"], a.Labels)
		d := r.delivered[id]
		d.labels = a.Labels
		if a.Status == "resolved" {
			d.resolved = now
		} else {
			d.firing = now
		}
		r.delivered[id] = d
	}
}

// told returns which of some alerts were delivered as firing since a time, the first first.
func (r *receiver) told(a Alert, since time.Time) []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []delivery
	for _, d := range r.delivered {
		if a.selects(d.labels) && d.firing.After(since) {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b delivery) int { return a.firing.Compare(b.firing) })
	return all
}

// silence returns for how long the heartbeat has stayed away.
func (r *receiver) silence() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.heartbeat)
}
