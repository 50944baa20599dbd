package pgserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

func ExampleStart() {
	_, err := pgserver.Start(context.Background(), pgserver.Config{
		Dir:    os.TempDir() + "/slipway-example",
		BinDir: "/opt/no-such-postgres/bin",
	})
	fmt.Println(errors.Is(err, pgserver.ErrNoBinaries))
	// Output: true
}
