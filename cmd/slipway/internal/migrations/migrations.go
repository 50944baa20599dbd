// Package migrations says what the database of a service consists of.
package migrations

import (
	"os"
	"path/filepath"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// Of lists the components of a project's service: the tables of the platform, then
// its own folder under the service's name.
func Of(p *project.Project, s project.Service) []migrate.Component {
	return Folder(s.Name, Dir(p, s))
}

// Dir returns the folder of a service's own SQL files, or "" when it has none.
func Dir(p *project.Project, s project.Service) string {
	if s.Migrations == "" {
		return ""
	}
	return filepath.Join(p.Dir, s.Migrations)
}

// Folder lists the components of a service whose SQL files are in dir. An empty dir
// leaves the tables of the platform.
func Folder(service, dir string) []migrate.Component {
	components := []migrate.Component{outbox.Migrations(), inbox.Migrations(), sagapg.Migrations(), barrier.Migrations()}
	if dir != "" {
		components = append(components, migrate.Component{Name: service, FS: os.DirFS(dir)})
	}
	return components
}
