// Package ops carries the operations bundle: the configuration of the observability
// stack and its alert rules. The files are for people to read and to copy; the embedded
// copies are what slipway runs with, unchanged.
package ops

import "embed"

// FS holds the files of this folder under their paths in it.
//
//go:embed */*.yml */*/*.yml runbooks/*.md
var FS embed.FS
