package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// prometheus asks a server about its alerts.
type prometheus struct{ url string }

// firing is an alert of Prometheus.
type firing struct {
	Labels map[string]string `json:"labels"`
	State  string            `json:"state"` // pending or firing
	Value  string            `json:"value"`
}

func (f firing) name() string { return f.Labels["alertname"] }

// id tells it apart from others.
func (f firing) id() string { return show(f.name(), f.Labels) }

// String shows the alert as evidence.
func (f firing) String() string { return f.id() + " " + f.Value }

func (p prometheus) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask Prometheus %s: %s: %s", path, answer.Status, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read answer of Prometheus: %w", err)
	}
	return nil
}

// alerts lists what is pending or firing.
func (p prometheus) alerts(ctx context.Context) ([]firing, error) {
	var answer struct{ Data struct{ Alerts []firing } }
	err := p.get(ctx, "/api/v1/alerts", &answer)
	return answer.Data.Alerts, err
}

// scraped returns how many replicas of services answer.
func (p prometheus) scraped(ctx context.Context) (int, error) {
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	err := p.get(ctx, "/api/v1/query?query="+url.QueryEscape(`up{job="slipway"} == 1`), &answer)
	return len(answer.Data.Result), err
}
