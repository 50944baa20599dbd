package redistest_test

import (
	"testing"

	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

// A test that needs nothing but a server asks for a client; one that breaks the server asks
// for the server.
func Example() {
	_ = func(t *testing.T) {
		t.Helper()
		client := redistest.New(t)
		if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}

		server := redistest.Start(t)
		server.Pause() // what does the code under test do now?
		server.Resume()
	}
	// Output:
}
