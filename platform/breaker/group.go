package breaker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Group holds the breakers of one callee: one that most of its methods share, and those of methods
// that have their own. Neither hears of the calls of another. It may be used in parallel.
type Group struct {
	shared *Breaker
	own    map[string]*Breaker
}

// NewGroup returns a group whose methods share a breaker of cfg, except for those in methods. What is
// zero in the configuration of a method is as in cfg; its name is cfg's and the method's by default. All
// faults of all configurations are reported at once; see [New] for reg.
func NewGroup(cfg Config, methods map[string]Config, reg prometheus.Registerer) (*Group, error) {
	cfg.SetDefaults()
	var errs []error
	if err := cfg.validateNamed(); err != nil {
		errs = append(errs, fmt.Errorf("check circuit breaker config: %w", err))
	}
	configs := make(map[string]Config, len(methods))
	for _, method := range slices.Sorted(maps.Keys(methods)) {
		c := methods[method]
		c.inherit(cfg)
		c.Name = cmp.Or(c.Name, cfg.Name+"/"+strings.TrimPrefix(method, "/"))
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("check circuit breaker config of %s: %w", method, err))
		}
		configs[method] = c
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	shared, err := New(cfg, reg)
	if err != nil {
		return nil, err
	}
	g := &Group{shared: shared, own: make(map[string]*Breaker, len(configs))}
	for method, c := range configs {
		if g.own[method], err = New(c, reg); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// Of returns the breaker that a call of the method has to pass.
func (g *Group) Of(method string) *Breaker {
	if own, ok := g.own[method]; ok {
		return own
	}
	return g.shared
}

// Has says whether the method has a breaker of its own.
func (g *Group) Has(method string) bool {
	_, ok := g.own[method]
	return ok
}
