package grpcapi_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// invalid is a request and the fields that are wrong in it.
type invalid struct {
	name   string
	req    proto.Message
	fields []string
}

// call makes the call that takes req.
func call(ctx context.Context, client orderv1.OrderServiceClient, req proto.Message) error {
	var err error
	switch req := req.(type) {
	case *orderv1.PlaceOrderRequest:
		_, err = client.PlaceOrder(ctx, req)
	case *orderv1.GetOrderRequest:
		_, err = client.GetOrder(ctx, req)
	case *orderv1.ListOrdersRequest:
		_, err = client.ListOrders(ctx, req)
	case *orderv1.CancelOrderRequest:
		_, err = client.CancelOrder(ctx, req)
	case *orderv1.WatchOrderRequest:
		var stream interface {
			Recv() (*orderv1.WatchOrderResponse, error)
		}
		if stream, err = client.WatchOrder(ctx, req); err == nil {
			_, err = stream.Recv()
		}
	default:
		panic(fmt.Sprintf("no method takes %T", req))
	}
	return err
}

func TestService_invalidRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.place(t, "shop")
	b.place(t, "shop")
	page, err := b.ListOrders(as(t, "shop"), &orderv1.ListOrdersRequest{PageSize: 1})
	require.NoError(t, err)
	require.NotEmpty(t, page.GetNextPageToken())

	requests := slices.Concat(invalidPlaces(), invalidLists(page.GetNextPageToken()), invalidCancels(), invalidIDs())
	t.Run("the table has every field of every request", func(t *testing.T) {
		t.Parallel()
		require.Subset(t, covered(requests), everyField())
	})
	for _, r := range requests {
		t.Run(fmt.Sprintf("%s: %s", r.req.ProtoReflect().Descriptor().Name(), r.name), func(t *testing.T) {
			t.Parallel()
			err := call(as(t, "shop"), b, r.req)
			requireCode(t, codes.InvalidArgument, err)
			var fields []string
			for _, v := range detail[*errdetails.BadRequest](t, err).GetFieldViolations() {
				require.NotEmpty(t, v.GetDescription())
				fields = append(fields, v.GetField())
			}
			slices.Sort(fields)
			require.Equal(t, r.fields, slices.Compact(fields))
		})
	}
}

func invalidPlaces() (all []invalid) {
	add := func(name string, change func(*orderv1.PlaceOrderRequest), fields ...string) {
		req := tea()
		change(req)
		all = append(all, invalid{name, req, fields})
	}
	type request = orderv1.PlaceOrderRequest
	for name, key := range map[string]string{
		"no key": "", "short key": "1234567", "long key": strings.Repeat("k", 129),
		"key with a space": "12345 678", "key with a letter of another script": "schlüssel", "key with a line break": "12345678\n",
	} {
		add(name, func(r *request) { r.IdempotencyKey = key }, "idempotency_key")
	}
	for name, customer := range map[string]string{
		"no customer": "", "long customer": strings.Repeat("c", 65), "customer with a slash": "c/1",
	} {
		add(name, func(r *request) { r.CustomerId = customer }, "customer_id")
	}
	for name, token := range map[string]string{
		"no card token": "", "long card token": strings.Repeat("t", 65), "card token with a blank": "tok ok",
	} {
		add(name, func(r *request) { r.CardToken = token }, "card_token")
	}
	add("no items", func(r *request) { r.Items = nil }, "items")
	add("101 items", func(r *request) { r.Items = slices.Repeat(r.GetItems()[:1], 101) }, "items")
	add("two currencies", func(r *request) { r.Items[1].UnitPrice.CurrencyCode = "USD" }, "items")
	for name, sku := range map[string]string{
		"no SKU": "", "small SKU": "tea", "SKU with a dash first": "-TEA", "long SKU": strings.Repeat("T", 33), "SKU with NUL": "TEA\x00",
	} {
		add(name, func(r *request) { r.Items[1].Sku = sku }, "items[1].sku")
	}
	for _, quantity := range []int32{-1, 0, 1001} {
		add(fmt.Sprintf("quantity %d", quantity), func(r *request) { r.Items[0].Quantity = quantity }, "items[0].quantity")
	}
	add("free", func(r *request) { r.Items[1].UnitPrice.MinorUnits = 0 }, "items[1].unit_price")
	add("no price", func(r *request) { r.Items = r.Items[:1]; r.Items[0].UnitPrice = nil }, "items[0].unit_price")
	add("negative price", func(r *request) { r.Items[0].UnitPrice.MinorUnits = -1 },
		"items[0].unit_price", "items[0].unit_price.minor_units")
	add("price above a million millions", func(r *request) { r.Items[0].UnitPrice.MinorUnits = 1_000_000_000_001 },
		"items[0].unit_price.minor_units")
	add("total above a million millions", func(r *request) { r.Items[0].Quantity, r.Items[0].UnitPrice.MinorUnits = 2, 1_000_000_000_000 }, "items")
	add("total of a hundred of the dearest items", func(r *request) {
		r.Items = slices.Repeat(r.GetItems()[:1], 100)
		r.Items[0].Quantity, r.Items[0].UnitPrice.MinorUnits = 1000, 1_000_000_000_000
	}, "items")
	for _, currency := range []string{"", "eur", "EURO", "E1R"} {
		add(fmt.Sprintf("currency %q", currency), func(r *request) {
			r.Items = r.Items[:1]
			r.Items[0].UnitPrice.CurrencyCode = currency
		}, "items[0].unit_price.currency_code")
	}
	add("several at once", func(r *request) { r.CustomerId, r.Items[0].Sku = "", "" }, "customer_id", "items[0].sku")
	return all
}

func invalidLists(token string) []invalid {
	return []invalid{
		{"negative page size", &orderv1.ListOrdersRequest{PageSize: -1}, []string{"page_size"}},
		{"page size 101", &orderv1.ListOrdersRequest{PageSize: 101}, []string{"page_size"}},
		{"long token", &orderv1.ListOrdersRequest{PageToken: strings.Repeat("A", 257)}, []string{"page_token"}},
		{"garbage as token", &orderv1.ListOrdersRequest{PageToken: "%%%"}, []string{"page_token"}},
		{"an id as token", &orderv1.ListOrdersRequest{PageToken: unknownID}, []string{"page_token"}},
		{"cut token", &orderv1.ListOrdersRequest{PageToken: token[1:]}, []string{"page_token"}},
		{"padded token", &orderv1.ListOrdersRequest{PageToken: token + "=="}, []string{"page_token"}},
		{"token of another version", &orderv1.ListOrdersRequest{PageToken: "B" + token[1:]}, []string{"page_token"}},
		{
			"token of a list of all states",
			&orderv1.ListOrdersRequest{PageToken: token, Status: orderv1.OrderStatus_ORDER_STATUS_PENDING},
			[]string{"page_token"},
		},
		{"token of a list of all customers", &orderv1.ListOrdersRequest{PageToken: token, CustomerId: "c-1"}, []string{"page_token"}},
		{"undefined status", &orderv1.ListOrdersRequest{Status: 99}, []string{"status"}},
		{"negative status", &orderv1.ListOrdersRequest{Status: -1}, []string{"status"}},
		{"long customer", &orderv1.ListOrdersRequest{CustomerId: strings.Repeat("c", 65)}, []string{"customer_id"}},
		{"customer with a space", &orderv1.ListOrdersRequest{CustomerId: "c 1"}, []string{"customer_id"}},
	}
}

func invalidCancels() []invalid {
	reason := func(r string) proto.Message { return &orderv1.CancelOrderRequest{OrderId: unknownID, Reason: r} }
	return []invalid{
		{"no reason", reason(""), []string{"reason"}},
		{"long reason", reason(strings.Repeat("ß", 201)), []string{"reason"}},
		{"reason that no database takes", reason("changed\x00my mind"), []string{"reason"}},
		{
			"negative version",
			&orderv1.CancelOrderRequest{OrderId: unknownID, Reason: "no", ExpectedVersion: -1},
			[]string{"expected_version"},
		},
	}
}

func invalidIDs() []invalid {
	all := []invalid{{
		"negative version", &orderv1.WatchOrderRequest{OrderId: unknownID, KnownVersion: -1}, []string{"known_version"},
	}}
	for name, id := range map[string]string{
		"no id": "", "short id": "42", "id with braces": "{" + unknownID + "}", "id as URN": "urn:uuid:" + unknownID,
		"id without dashes": strings.ReplaceAll(unknownID, "-", ""), "long id": unknownID + "0", "id with a letter too far": "g" + unknownID[1:],
	} {
		for _, req := range []proto.Message{
			&orderv1.GetOrderRequest{OrderId: id},
			&orderv1.CancelOrderRequest{OrderId: id, Reason: "no"},
			&orderv1.WatchOrderRequest{OrderId: id},
		} {
			all = append(all, invalid{name, req, []string{"order_id"}})
		}
	}
	return all
}

var index = regexp.MustCompile(`\[\d+\]`)

// covered names the fields of the table, each behind its message.
func covered(requests []invalid) (fields []string) {
	for _, r := range requests {
		for _, f := range r.fields {
			fields = append(fields, string(r.req.ProtoReflect().Descriptor().Name())+"."+index.ReplaceAllString(f, ""))
		}
	}
	return fields
}

// everyField names each field of each request, as the definition has them.
func everyField() (fields []string) {
	var walk func(prefix string, m protoreflect.MessageDescriptor)
	walk = func(prefix string, m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			fields = append(fields, prefix+string(f.Name()))
			if f.Message() != nil {
				walk(prefix+string(f.Name())+".", f.Message())
			}
		}
	}
	methods := orderv1.File_slipway_order_v1_order_service_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		input := methods.Get(i).Input()
		walk(string(input.Name())+".", input)
	}
	return fields
}
