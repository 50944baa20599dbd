package postgres

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the pool's statistics when it is scraped.
type collector struct {
	pool     *pgxpool.Pool
	suspects *suspectTracer

	acquired, idle, constructing, total, limit       *prometheus.Desc
	acquires, waited, waitSeconds, canceled, created *prometheus.Desc
	destroyed                                        *prometheus.Desc
}

func newCollector(name string, pool *pgxpool.Pool, suspects *suspectTracer) *collector {
	desc := func(metric, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pgxpool_"+metric, help, labels, prometheus.Labels{"pool": name})
	}
	return &collector{
		pool:         pool,
		suspects:     suspects,
		acquired:     desc("acquired_conns", "Connections in use."),
		idle:         desc("idle_conns", "Connections ready for use."),
		constructing: desc("constructing_conns", "Connections being opened."),
		total:        desc("total_conns", "Connections in use, ready or being opened."),
		limit:        desc("max_conns", "Most connections that the pool opens."),
		acquires:     desc("acquires_total", "Connections handed out."),
		waited:       desc("empty_acquires_total", "Connections handed out that had to be waited for."),
		waitSeconds:  desc("acquire_wait_seconds_total", "Time spent waiting for a connection of an exhausted pool."),
		canceled:     desc("canceled_acquires_total", "Waits for a connection that ended without one."),
		created:      desc("new_conns_total", "Attempts to open a connection."),
		destroyed:    desc("destroyed_conns_total", "Connections closed by the pool, by reason.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.pool.Stat()
	gauge := func(d *prometheus.Desc, v int32) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(c.acquired, s.AcquiredConns())
	gauge(c.idle, s.IdleConns())
	gauge(c.constructing, s.ConstructingConns())
	gauge(c.total, s.TotalConns())
	gauge(c.limit, s.MaxConns())
	counter(c.acquires, float64(s.AcquireCount()))
	counter(c.waited, float64(s.EmptyAcquireCount()))
	counter(c.waitSeconds, s.EmptyAcquireWaitTime().Seconds())
	counter(c.canceled, float64(s.CanceledAcquireCount()))
	counter(c.created, float64(s.NewConnsCount()))
	counter(c.destroyed, float64(s.MaxLifetimeDestroyCount()), "lifetime")
	counter(c.destroyed, float64(s.MaxIdleDestroyCount()), "idle")
	counter(c.destroyed, float64(c.suspects.dropped.Load()), "failover")
}
