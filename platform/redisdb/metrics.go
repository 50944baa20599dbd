package redisdb

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

var (
	poolMax         = poolDesc("max_connections", "Most connections the pool may open.")
	poolConnections = poolDesc("connections", "Open connections of the pool.", "state")
	poolHits        = poolDesc("hits_total", "Commands that found an idle connection.")
	poolMisses      = poolDesc("misses_total", "Commands that found no idle connection.")
	poolTimeouts    = poolDesc("timeouts_total", "Commands that gave up waiting for a connection.")
	poolWait        = poolDesc("wait_seconds_total", "Time that commands waited for a connection.")
	poolStale       = poolDesc("stale_connections_total", "Connections found dead or too old and closed.")
)

func poolDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("redis_pool_"+name, help, labels, nil)
}

// poolCollector reads the pool's statistics when it is scraped.
type poolCollector struct{ client *redis.Client }

// Describe implements prometheus.Collector.
func (c poolCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c poolCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.client.PoolStats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	gauge(poolMax, float64(c.client.Options().PoolSize))
	gauge(poolConnections, float64(stats.IdleConns), "idle")
	gauge(poolConnections, max(0, float64(stats.TotalConns)-float64(stats.IdleConns)), "in_use")
	counter(poolHits, float64(stats.Hits))
	counter(poolMisses, float64(stats.Misses))
	counter(poolTimeouts, float64(stats.Timeouts))
	counter(poolWait, time.Duration(stats.WaitDurationNs).Seconds())
	counter(poolStale, float64(stats.StaleConns))
}

// counters registers a counter with the labels owner and "result", or takes the one that an
// earlier cache or limiter of the same registerer registered, and creates owner's series.
func counters(reg prometheus.Registerer, opts prometheus.CounterOpts, owner, name string, results ...string) (map[string]prometheus.Counter, error) {
	vec := prometheus.NewCounterVec(opts, []string{owner, "result"})
	if reg != nil {
		err := reg.Register(vec)
		var earlier prometheus.AlreadyRegisteredError
		if errors.As(err, &earlier) {
			vec, err = earlier.ExistingCollector.(*prometheus.CounterVec), nil
		}
		if err != nil {
			return nil, fmt.Errorf("register %s: %w", opts.Name, err)
		}
	}
	series := make(map[string]prometheus.Counter, len(results))
	for _, result := range results {
		series[result] = vec.WithLabelValues(name, result)
	}
	return series, nil
}
