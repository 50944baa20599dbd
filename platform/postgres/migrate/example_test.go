package migrate_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

func ExampleHash() {
	dir, _ := os.MkdirTemp("", "migrations-")
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "20260102150405_create_orders.sql")
	_ = os.WriteFile(file, []byte("CREATE TABLE orders (id uuid PRIMARY KEY);\n"), 0o600)

	fmt.Println(migrate.Hash(dir))
	_, err := migrate.Status(context.Background(), "postgres://localhost:1/", migrate.Component{
		Name: "order", FS: os.DirFS(dir),
	})
	fmt.Println(err != nil) // the folder is in order; the database does not answer
	// Output:
	// <nil>
	// true
}
