// Package migrations holds the tables of the payment service as versioned SQL files.
package migrations

import "embed"

// FS holds the files and their hashes, in the directory format of Atlas.
//
//go:embed *.sql atlas.sum
var FS embed.FS
