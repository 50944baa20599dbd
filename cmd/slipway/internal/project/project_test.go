package project_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

const valid = `
version: 1
services:
  - name: order
    package: ./order
    migrations: order/migrations
    grpc: 50051
    admin: 9464
    needs: [postgres, redis, nats]
    calls: { PAYMENT_ADDR: payment }
  - name: payment
    package: ./payment
    grpc: 50052
    admin: 9465
    needs:
    calls: {}
try:
  - go run ./shopper --target $order
load: go run ./shopper --target $payment
`

func TestOpen(t *testing.T) {
	t.Parallel()

	t.Run("reads every field", func(t *testing.T) {
		t.Parallel()
		dir := write(t, valid)
		p, err := project.Open(dir)
		require.NoError(t, err)
		require.Equal(t, &project.Project{
			Dir: dir,
			Services: []project.Service{{
				Name: "order", Package: "./order", Migrations: "order/migrations", GRPC: 50051, Admin: 9464,
				Needs: []string{"postgres", "redis", "nats"}, Calls: map[string]string{"PAYMENT_ADDR": "payment"},
			}, {
				Name: "payment", Package: "./payment", GRPC: 50052, Admin: 9465, Calls: map[string]string{},
			}},
			Try:  []string{"go run ./shopper --target $order"},
			Load: "go run ./shopper --target $payment",
		}, p)
		require.True(t, p.Needs(project.Redis))
		require.Equal(t, []string{"order", "payment"}, p.Names())
	})

	t.Run("finds the file from a folder below", func(t *testing.T) {
		t.Parallel()
		dir := write(t, valid)
		p, err := project.Open(filepath.Join(dir, "order", "migrations"))
		require.NoError(t, err)
		require.Equal(t, dir, p.Dir)
	})

	t.Run("says what to do when there is no file", func(t *testing.T) {
		t.Parallel()
		_, err := project.Open(t.TempDir())
		require.ErrorIs(t, err, project.ErrNotFound)
		require.ErrorContains(t, err, "change to a project")
	})
}

func TestOpen_namesAllMistakesWithTheirLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"an empty file", "", []string{
			":1: services is missing: name at least one", ":1: the file: want keys and values",
			":1: version is missing: write version: 1",
		}},
		{"a syntax error", "version: 1\nservices: [1\nx: 2\n", []string{":3: ',' or ']' must be specified"}},
		{"a key written twice", "version: 1\nversion: 1\n", []string{`:2: mapping key "version" already defined at [1:1]`}},
		{"a list that is none", "version: 1\nservices: order\n", []string{
			":2: services: name at least one", ":2: services: want a list",
		}},
		{"no service", "version: 2\nservices: []\n", []string{
			":1: version: this program reads version 1 only", ":2: services: name at least one",
		}},
		{"many in one file", `version: one
color: red
services:
  - name: Order
    package: ../order
    migrations: nowhere
    grpc: 70000
    admin: "9464"
    needs: [postgres, kafka]
    calls: {payment: payment, STOCK_ADDR: inventory}
  - name: payment
    grpc: 9465
    admin: 9465
    calls: [x]
  - payment
  - name: payment
    package: ./payment
    grpc: 9465
    admin: 1
try: [buy --from $shop]
load: sell --to $shop
`, []string{
			":1: version: want a whole number",
			":2: the file: color is not known, choose from version, services, try, load",
			`:4: services[0].name: "Order" will not do: lower case letters, digits and -, at most 32, beginning with a letter`,
			":5: services[0].package: ../order must be a path inside the project",
			":6: services[0].migrations: there is no folder nowhere",
			":7: services[0].grpc: 70000 is not between 1 and 65535",
			":8: services[0].admin: want a whole number",
			":9: services[0].needs: kafka is not known, choose from postgres, redis, nats",
			":10: services[0].calls.STOCK_ADDR: there is no service inventory",
			":10: services[0].calls.payment: want the name of an environment variable, such as PAYMENT_ADDR",
			":11: services[1].package is missing",
			":13: services[1].admin: port 9465 is that of services[1].grpc already",
			":14: services[1].calls: want keys and values",
			":15: services[2]: want keys and values",
			":16: services[3].name: there are two services payment",
			":18: services[3].grpc: port 9465 is that of services[1].grpc already",
			":20: try: $shop: there is no service shop",
			":21: load: $shop: there is no service shop",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, c.text)
			_, err := project.Open(dir)
			var problems *project.Error
			require.ErrorAs(t, err, &problems)
			want := ""
			for i, line := range c.want {
				if i > 0 {
					want += "\n"
				}
				want += filepath.Join(dir, project.FileName) + line
			}
			require.Equal(t, want, err.Error())
		})
	}
}

// write makes a project with the folders order and payment.
func write(t *testing.T, text string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for _, sub := range []string{"order/migrations", "payment"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, project.FileName), []byte(text), 0o644))
	return dir
}
