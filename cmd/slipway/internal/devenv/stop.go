package devenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// Stop drains the services, then ends the servers: NATS, Redis, PostgreSQL. When
// ctx is over it ends at once what is left. It is for any Env, however far its
// Start came, and returns with no process left.
func (e *Env) Stop(ctx context.Context) error {
	if e.lock == nil {
		return nil // it never was ours
	}
	_ = e.state.update(func(s *State) { s.Phase = Stopping }) // a full disk must not keep it from stopping
	errs := []error{e.stopServices(ctx)}
	if o := e.observability; o != nil {
		step := e.progress.Start("stopping the observability stack")
		errs = append(errs, o.Stop(ctx))
		step.Done("observability stack stopped")
	}
	for _, s := range []struct {
		name   string
		server server
	}{{"NATS", e.nats}, {"Redis", e.redis}, {"PostgreSQL", e.postgres}} {
		if s.server == nil {
			continue
		}
		step := e.progress.Start("stopping " + s.name)
		errs = append(errs, s.server.Stop(ctx))
		step.Done("%s stopped", s.name)
	}
	for _, l := range e.logs {
		errs = append(errs, l.Close())
	}
	for _, r := range e.at.records().List() {
		errs = append(errs, r.Remove())
	}
	errs = append(errs, e.state.remove(), e.lock.Release())
	return errors.Join(errs...)
}

// stopServices gives all services, side by side, their time to drain.
func (e *Env) stopServices(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainBudget(e.cfg.Environ))
	defer cancel()
	errs := make([]error, len(e.services))
	var stopped sync.WaitGroup
	for i, s := range e.services {
		stopped.Go(func() {
			step := e.progress.Start("draining " + s.Name)
			errs[i] = s.stop(ctx)
			step.Done("%s stopped", s.Name)
		})
	}
	stopped.Wait()
	return errors.Join(errs...)
}

// Remove deletes the folder of an environment that does not run, with the data of its servers,
// also where they are elsewhere: those of PostgreSQL in Docker, or in a folder that its account
// can reach.
func (e *Env) Remove(ctx context.Context) error {
	return errors.Join(e.wipe(ctx), os.RemoveAll(e.at.root))
}

// wipe deletes the data of the servers.
func (e *Env) wipe(ctx context.Context) error {
	step := e.progress.Start("wiping the data")
	place, err := pgserver.Place(e.at.postgres())
	if err != nil {
		step.Fail()
		return fmt.Errorf("find data of PostgreSQL: %w", err)
	}
	err = errors.Join(
		pgserver.Remove(ctx, place),
		removeVolume(ctx, e),
		os.RemoveAll(e.at.redis()),
		os.RemoveAll(e.at.nats()),
		os.RemoveAll(e.at.observability()),
		os.RemoveAll(e.at.logs()),
		os.RemoveAll(e.at.credentials()),
	)
	if err != nil {
		step.Fail()
		return fmt.Errorf("wipe the data: %w", err)
	}
	step.Done("wiped the data in %s", e.at.root)
	for _, variable := range []string{"DATABASE_URL", "REDIS_URL", "BROKER_URL"} {
		if Lookup(e.cfg.Environ, variable) != "" {
			e.cfg.Console.Notef("  ! the server of %s was left as it is", variable)
		}
	}
	return nil
}
