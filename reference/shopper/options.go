package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

const usage = `shopper places orders with the order service and checks that none is lost, and with --payment and
--inventory that money and stock agree with them.

  go run ./reference/shopper --orders 500 --rate 50
  go run ./reference/shopper --payment 127.0.0.1:50052 --inventory 127.0.0.1:50053 --orders 5000 --rate 200 --declined 0.3

Orders start at a constant rate, whatever the service does, and latency counts from the moment
an order should have started. Exit code: 0 if all went well, 1 if an order was lost, wrong or
could not be placed or an invariant is broken, 2 if the command line is wrong.

Flags:
`

// options are what the command line says.
type options struct {
	addr      string
	payment   string
	inventory string
	orders    int
	rate      float64
	seed      uint64
	shares
	watch       int
	wait        time.Duration
	retries     int
	concurrency int
	callTimeout time.Duration
	timeLimit   time.Duration
	output      string
	token       string
	tls         bool
	caFile      string
}

// parseOptions reads the command line. Usage goes to stderr.
func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var tokenFile string
	flags := flag.NewFlagSet("shopper", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.addr, "addr", "127.0.0.1:50051", "`host:port` of the order service")
	flags.StringVar(&o.payment, "payment", "", "`host:port` of the payment service, to check the payments; empty checks none")
	flags.StringVar(&o.inventory, "inventory", "", "`host:port` of the inventory service, to put goods of this run's own in its warehouse and to check them; "+
		"empty orders what others may have put there")
	flags.IntVar(&o.orders, "orders", 500, "how many orders to place")
	flags.Float64Var(&o.rate, "rate", 50, "orders a second")
	flags.Uint64Var(&o.seed, "seed", 0, "makes the orders the same in each run; 0 draws a seed and prints it")
	flags.Float64Var(&o.repeat, "repeat", 0.05, "share of orders placed twice with the same key, half of them at the same time")
	flags.Float64Var(&o.cancel, "cancel", 0.05, "share of orders to cancel")
	flags.Float64Var(&o.declined, "declined", 0.1, "share of orders paid with a card that is declined")
	flags.Float64Var(&o.unclear, "unclear", 0.02, "share of orders paid with a card for which the provider answers late, with errors or not at all")
	flags.Float64Var(&o.soldOut, "sold-out", 0.05, "share of orders with an article that is sold out")
	flags.IntVar(&o.watch, "watch", 100, "orders to watch at once; 0 watches none")
	flags.DurationVar(&o.wait, "wait", 30*time.Second, "how long to watch an order that is not final, and then how long payments and stock may take to come to rest")
	flags.IntVar(&o.retries, "retries", 8, "how often to repeat a call that was not answered; an order has a quarter of that on average")
	flags.IntVar(&o.concurrency, "concurrency", 256, "orders in flight at most")
	flags.DurationVar(&o.callTimeout, "timeout", 5*time.Second, "of one call")
	flags.DurationVar(&o.timeLimit, "time-limit", 0, "of the whole run; 0 means the time the orders take, --wait and a minute")
	flags.StringVar(&o.output, "output", "table", "`format` of the summary: table or json")
	flags.StringVar(&o.token, "token", "", "bearer token")
	flags.StringVar(&tokenFile, "token-file", "", "`file` with the bearer token")
	flags.BoolVar(&o.tls, "tls", false, "speak TLS")
	flags.StringVar(&o.caFile, "tls-ca", "", "`file` with the authorities that vouch for the service; means --tls, default the system's")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err := o.validate(); err != nil {
		return o, err
	}
	return o, o.complete(tokenFile)
}

func (o options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.addr != "", "--addr is empty")
	check(o.orders >= 1 && o.orders <= 10_000_000, "--orders %d is not between 1 and 10,000,000", o.orders)
	check(o.rate > 0 && o.rate <= 100_000, "--rate %g is not above 0 and at most 100,000", o.rate)
	o.shares.validate(check)
	check(o.watch >= 0, "--watch %d is negative", o.watch)
	check(o.wait >= 0, "--wait %s is negative", o.wait)
	check(o.retries >= 0, "--retries %d is negative", o.retries)
	check(o.concurrency >= 1, "--concurrency %d is below 1", o.concurrency)
	check(o.callTimeout > 0, "--timeout %s is not positive", o.callTimeout)
	check(o.timeLimit >= 0, "--time-limit %s is negative", o.timeLimit)
	check(o.output == "table" || o.output == "json", "--output %q is neither table nor json", o.output)
	return errors.Join(errs...)
}

func (s shares) validate(check func(ok bool, format string, args ...any)) {
	for _, share := range []struct {
		name  string
		value float64
	}{{"repeat", s.repeat}, {"cancel", s.cancel}, {"declined", s.declined}, {"unclear", s.unclear}, {"sold-out", s.soldOut}} {
		check(share.value >= 0 && share.value <= 1, "--%s %g is not between 0 and 1", share.name, share.value)
	}
	check(s.declined+s.unclear <= 1, "--declined %g and --unclear %g are more than 1 together", s.declined, s.unclear)
}

// complete fills what depends on other flags.
func (o *options) complete(tokenFile string) error {
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1
	}
	o.tls = o.tls || o.caFile != ""
	if o.timeLimit == 0 {
		o.timeLimit = arrival(o.orders, o.rate) + o.wait + time.Minute
	}
	if tokenFile == "" {
		return nil
	}
	if o.token != "" {
		return errors.New("--token and --token-file exclude each other")
	}
	text, err := os.ReadFile(tokenFile)
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	if o.token = strings.TrimSpace(string(text)); o.token == "" {
		return fmt.Errorf("read token: %s is empty", tokenFile)
	}
	return nil
}
