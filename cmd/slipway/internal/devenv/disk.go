package devenv

import (
	"errors"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// requireFree checks every folder that a start writes to.
func requireFree(dirs ...string) error {
	for _, dir := range dirs {
		if err := machine.RequireFree(dir, MinFree); err != nil {
			return err
		}
	}
	return nil
}

// explainFull returns one clear error when err, from whatever program or library,
// means that the disk is full, and nil otherwise.
func explainFull(doing, dir string, err error) error {
	if err == nil || errors.Is(err, machine.ErrDiskFull) || errors.Is(err, pgserver.ErrDiskFull) {
		return err // clear already
	}
	return machine.DiskFull(doing, dir, err.Error())
}
