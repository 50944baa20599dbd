// Package migrations holds the tables of the inventory service.
package migrations

import "embed"

// FS has the SQL files and their checksums.
//
//go:embed *.sql atlas.sum
var FS embed.FS
