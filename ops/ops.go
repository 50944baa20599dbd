// Package ops carries the operations bundle: the configuration of the observability
// stack, alert rules and runbooks. The files are for people to read and to copy; the
// embedded copies are what slipway runs with, unchanged.
package ops

import "embed"

// FS holds the files of this folder under their paths in it.
//
//go:embed */*.yml
var FS embed.FS
