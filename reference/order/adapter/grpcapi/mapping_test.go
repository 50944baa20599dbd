package grpcapi

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

func TestStatus_bothWays(t *testing.T) {
	t.Parallel()
	require.Empty(t, statusFromProto(orderv1.OrderStatus_ORDER_STATUS_UNSPECIFIED))
	require.Empty(t, statusFromProto(99))
	require.Len(t, statusToProto, len(orderv1.OrderStatus_name)-1, "every value but UNSPECIFIED has one status")
	for n, name := range orderv1.OrderStatus_name {
		if n == 0 {
			continue
		}
		status := statusFromProto(orderv1.OrderStatus(n))
		require.Equal(t, name, "ORDER_STATUS_"+string(status))
		require.EqualValues(t, n, statusToProto[status])
	}
}

func TestOrderToProto(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
	euros := func(minor int64) domain.Money { return domain.Money{Currency: "EUR", Minor: minor} }
	got := orderToProto(domain.Snapshot{
		ID: "o-1", Owner: "shop", CustomerID: "c-1", Status: domain.Cancelled,
		Items: []domain.Item{
			{SKU: "TEA-1", Quantity: 2, UnitPrice: euros(350)},
			{SKU: "CUP-9", Quantity: 1, UnitPrice: euros(1200)},
		},
		Total: euros(1900), Version: 2, CreatedAt: created, UpdatedAt: created.Add(time.Second), CancelReason: "broken",
	})
	price := func(minor int64) *orderv1.Money { return &orderv1.Money{CurrencyCode: "EUR", MinorUnits: minor} }
	want := &orderv1.Order{
		Id: "o-1", CustomerId: "c-1", Status: orderv1.OrderStatus_ORDER_STATUS_CANCELLED,
		Items: []*orderv1.OrderItem{
			{Sku: "TEA-1", Quantity: 2, UnitPrice: price(350)},
			{Sku: "CUP-9", Quantity: 1, UnitPrice: price(1200)},
		},
		Total: price(1900), Version: 2, CancelReason: "broken",
		CreateTime: timestamppb.New(created), UpdateTime: timestamppb.New(created.Add(time.Second)),
	}
	require.True(t, proto.Equal(want, got), "got %v", got)
	fields := got.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		require.True(t, got.ProtoReflect().Has(fields.Get(i)), "%s is never set", fields.Get(i).Name())
	}
}

func TestItemsFromProto(t *testing.T) {
	t.Parallel()

	t.Run("undoes what orderToProto does to items", func(t *testing.T) {
		t.Parallel()
		item := rapid.Custom(func(t *rapid.T) domain.Item {
			return domain.Item{
				SKU:      rapid.String().Draw(t, "sku"),
				Quantity: rapid.Int32().Draw(t, "quantity"),
				UnitPrice: domain.Money{
					Currency: rapid.String().Draw(t, "currency"), Minor: rapid.Int64().Draw(t, "minor"),
				},
			}
		})
		rapid.Check(t, func(t *rapid.T) {
			items := rapid.SliceOf(item).Draw(t, "items")
			back := itemsFromProto(orderToProto(domain.Snapshot{Items: items}).GetItems())
			require.Len(t, back, len(items))
			for i := range items {
				require.Equal(t, items[i], back[i])
			}
		})
	})

	t.Run("an item without a price has none", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, []domain.Item{{}, {SKU: "TEA-1"}}, itemsFromProto([]*orderv1.OrderItem{nil, {Sku: "TEA-1"}}))
	})
}

var filters = rapid.Custom(func(t *rapid.T) usecase.Filter {
	return usecase.Filter{
		Owner:      rapid.String().Draw(t, "owner"),
		Status:     rapid.SampledFrom([]domain.Status{"", domain.Pending, domain.Confirmed, domain.Cancelled}).Draw(t, "status"),
		CustomerID: rapid.StringMatching("[A-Za-z0-9._:-]{0,64}").Draw(t, "customer"),
	}
})

func TestToken_roundTrip(t *testing.T) {
	t.Parallel()

	t.Run("a token gives back the id that it was made of", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")).String()
			f := filters.Draw(t, "filter")
			token := encodeToken(id, f)
			require.LessOrEqual(t, len(token), 256, "what the rules of the request accept")
			before, err := decodeToken(token, f)
			require.NoError(t, err)
			require.Equal(t, id, before)
		})
	})

	t.Run("a token serves its own filter only", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			f, other := filters.Draw(t, "filter"), filters.Draw(t, "other")
			if f.Status == other.Status && f.CustomerID == other.CustomerID {
				t.Skip("the same filter")
			}
			_, err := decodeToken(encodeToken(uuid.NewString(), f), other)
			requireBadToken(t, err)
		})
	})

	t.Run("no next page is no token, and no token is the first page", func(t *testing.T) {
		t.Parallel()
		require.Empty(t, encodeToken("", usecase.Filter{}))
		before, err := decodeToken("", usecase.Filter{})
		require.NoError(t, err)
		require.Empty(t, before)
	})
}

func TestDecodeToken_malformed(t *testing.T) {
	t.Parallel()
	good := encodeToken("0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e", usecase.Filter{})
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	require.Len(t, raw, tokenLength)
	changed := func(i int) string {
		b := append([]byte{}, raw...)
		b[i]++
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for name, token := range map[string]string{
		"garbage":              "%%%",
		"text":                 "next",
		"an id":                "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e",
		"a byte too short":     base64.RawURLEncoding.EncodeToString(raw[:tokenLength-1]),
		"a byte too long":      base64.RawURLEncoding.EncodeToString(append(raw[:tokenLength:tokenLength], 0)),
		"another version":      changed(0),
		"another filter":       changed(tokenLength - 1),
		"padded":               base64.URLEncoding.EncodeToString(raw),
		"padding only":         "==",
		"bits after the end":   good[:len(good)-1] + nextLetter(good[len(good)-1]),
		"a line break at last": good + "\n",
		"a line break within":  good[:7] + "\r\n" + good[7:],
		"a space":              " " + good,
		"not UTF-8":            strings.Repeat("\xff", len(good)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, err := decodeToken(token, usecase.Filter{})
			require.Empty(t, before)
			requireBadToken(t, err)
		})
	}
}

// nextLetter is the letter whose value is one higher: it differs in a bit that a token does not use.
func nextLetter(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)+1])
}

// FuzzDecodeToken shows that a token is either refused, or exactly what encodeToken makes of the id
// in it: there are no two tokens for one page.
func FuzzDecodeToken(f *testing.F) {
	filter := usecase.Filter{Status: domain.Pending, CustomerID: "c-1"}
	good := encodeToken("0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e", filter)
	for _, seed := range []string{"", "next", good, good + "=", good + "\n", good[1:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		before, err := decodeToken(token, filter)
		if err != nil {
			require.Empty(t, before)
			requireBadToken(t, err)
			return
		}
		require.Equal(t, token, encodeToken(before, filter))
	})
}

func requireBadToken(t require.TestingT, err error) {
	f, ok := fault.From(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, fault.InvalidArgument, f.Code)
	require.Len(t, f.Violations, 1)
	require.Equal(t, "page_token", f.Violations[0].Field)
	require.NotEmpty(t, f.Violations[0].Description)
}
