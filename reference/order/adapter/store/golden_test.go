package store

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

var writeGolden = flag.Bool("update", false, "write the golden payload of an event type or version that has none")

// Golden payloads are what has been published once and may lie in an outbox, a broker or a dead letter for
// long: <type>.v<version>.binpb, with what is in them beside it to read. Consumers replay all of them.
const golden = "../../testdata/events"

// TestGolden_encoding holds the encoding of today's versions to its golden payload. A change that breaks
// this test needs a new version; the file of the old one stays.
func TestGolden_encoding(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
	total := domain.Money{Currency: "EUR", Minor: 700}
	for _, e := range []domain.Event{
		domain.OrderPlaced{Order: domain.Snapshot{
			ID: "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e", Owner: "shop", CustomerID: "c-1", Status: domain.Pending, Total: total, Version: 1,
			Items:     []domain.Item{{SKU: "TEA-1", Quantity: 2, UnitPrice: domain.Money{Currency: "EUR", Minor: 350}}},
			CreatedAt: at, UpdatedAt: at,
		}},
		domain.OrderConfirmed{OrderID: "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e", OrderVersion: 2, Total: total, At: at},
		domain.OrderCancelled{OrderID: "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e", OrderVersion: 2, Reason: "changed my mind", At: at},
	} {
		events, err := outboxEvents("0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e", []domain.Event{e})
		require.NoError(t, err)
		name := filepath.Join(golden, fmt.Sprintf("%s.v%d", events[0].Type, events[0].Version))
		_, message := payload(e)
		if _, err := os.Stat(name + ".binpb"); os.IsNotExist(err) && *writeGolden {
			require.NoError(t, os.WriteFile(name+".binpb", events[0].Payload, 0o644))
			require.NoError(t, os.WriteFile(name+".json", []byte(protojson.Format(message)+"\n"), 0o644))
		}
		want, err := os.ReadFile(name + ".binpb")
		require.NoError(t, err, "go test ./reference/order/adapter/store -run Golden -update writes it")
		require.Equal(t, want, events[0].Payload)
		again := message.ProtoReflect().New().Interface()
		require.NoError(t, proto.Unmarshal(want, again))
		require.True(t, proto.Equal(message, again))
	}
}
