package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// millis is a time in milliseconds.
type millis float64

func (m millis) String() string {
	if m >= 1000 {
		return fmt.Sprintf("%.2fs", float64(m)/1000)
	}
	return fmt.Sprintf("%.3gms", float64(m))
}

// finding is an order that is not as it should be.
type finding struct {
	OrderID string `json:"order_id"`
	Problem string `json:"problem"`
}

func (f finding) String() string { return f.OrderID + ": " + f.Problem }

// report is the summary of a run; its JSON names are what scripts read.
type report struct {
	OK      bool    `json:"ok"`
	Verdict string  `json:"verdict"`
	Run     string  `json:"run"`
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	Stopped string  `json:"stopped,omitempty"` // why the run ended early

	Orders struct {
		Wanted       int `json:"wanted"`
		Placed       int `json:"placed"`
		Rejected     int `json:"rejected"`
		Unanswered   int `json:"unanswered"`
		FoundLater   int `json:"found_later"` // unanswered, but in the lists
		NotAttempted int `json:"not_attempted"`
	} `json:"orders"`
	States  map[string]int `json:"states"`
	Latency quantiles      `json:"place_order_latency"`
	Rate    struct {
		Offered   float64 `json:"offered"`
		Achieved  float64 `json:"achieved"`
		LateStart int64   `json:"late_starts"`
	} `json:"rate"`
	Calls         int64 `json:"calls"`
	Retries       int64 `json:"retries"`
	Repeats       count `json:"repeats"`
	Cancellations struct {
		Done    int64 `json:"done"`
		TooLate int64 `json:"too_late"`
	} `json:"cancellations"`
	Watched struct {
		Orders     int64 `json:"orders"`
		Final      int64 `json:"final"`
		Reconnects int64 `json:"reconnects"`
	} `json:"watched"`
	// Ends counts why orders are CANCELLED.
	Ends struct {
		Customer int `json:"customer"`
		Declined int `json:"declined"`
		SoldOut  int `json:"sold_out"`
		Other    int `json:"other"`
	} `json:"cancelled_because"`
	ReadBack struct {
		ByID   int64 `json:"by_id"`
		InList int64 `json:"in_list"`
	} `json:"read_back"`

	Lost   []finding `json:"lost"`
	Wrong  []finding `json:"wrong"`
	Failed []string  `json:"failed"` // why orders could not be placed

	Invariants []invariant `json:"invariants"`
	Unseen     []string    `json:"invariants_not_visible"`
	audited    bool
}

// count is how many of them were as they should be.
type count struct {
	Total int64 `json:"total"`
	Right int64 `json:"right"`
}

// report sums up what was done; stopped says why the run ended early, if it did.
func (s *shopper) report(stopped string) *report {
	c := &s.counts
	r := &report{
		Run: s.wishes.run, Seed: s.opts.seed, Stopped: stopped,
		Seconds: time.Since(s.begin).Round(time.Millisecond).Seconds(),
		States:  map[string]int{}, Latency: s.latency.quantiles(),
		Calls: c.calls.Load(), Retries: c.retries.Load(),
		Repeats: count{c.repeated.Load(), c.repeatedRight.Load()},
		Lost:    []finding{}, Wrong: []finding{}, Failed: []string{},
	}
	r.Orders.Wanted, r.Orders.NotAttempted = s.opts.orders, s.opts.orders-len(s.purchases)
	r.Rate.Offered, r.Rate.LateStart = s.opts.rate, c.late.Load()
	r.Cancellations.Done, r.Cancellations.TooLate = c.cancelled.Load(), c.tooLate.Load()
	r.Watched.Orders, r.Watched.Final, r.Watched.Reconnects = c.watched.Load(), c.settled.Load(), c.reconnect.Load()
	r.ReadBack.ByID, r.ReadBack.InList = c.readByID.Load(), c.readInList.Load()
	for _, p := range s.purchases {
		r.add(p)
	}
	for _, id := range s.unexpected {
		r.Wrong = append(r.Wrong, finding{id, "ListOrders shows an order that nobody placed"})
	}
	if last := s.lastAnswer.Load(); last > 0 {
		// The last order has its share of time, too: 500 orders at 50/s take 10 s.
		span := max(time.Unix(0, last).Sub(s.begin)+arrival(1, s.opts.rate), arrival(r.Orders.Placed, s.opts.rate))
		r.Rate.Achieved = float64(r.Orders.Placed) / span.Seconds()
	}
	r.Invariants, r.Unseen = s.books().invariants()
	r.audited = s.audits()
	r.judge()
	return r
}

func (r *report) add(p *purchase) {
	switch p.outcome {
	case acknowledged:
		r.Orders.Placed++
		if p.final != nil {
			r.States[stateName(p.final)]++
			r.addReason(p.final)
		}
	case rejected:
		r.Orders.Rejected++
		r.Failed = append(r.Failed, p.reason)
	case unanswered:
		r.Orders.Unanswered++
		r.Failed = append(r.Failed, p.reason)
		if p.final != nil {
			r.Orders.FoundLater++
		}
	}
	switch {
	case p.lost != "":
		r.Lost = append(r.Lost, finding{p.order.GetId(), p.lost})
	case p.wrong != "":
		r.Wrong = append(r.Wrong, finding{p.order.GetId(), p.wrong})
	}
}

func (r *report) addReason(o *orderv1.Order) {
	switch reason := o.GetCancelReason(); {
	case !isCancelled(o):
	case reason == changedMind:
		r.Ends.Customer++
	case strings.HasPrefix(reason, "payment declined"):
		r.Ends.Declined++
	case strings.HasPrefix(reason, "out of stock"):
		r.Ends.SoldOut++
	default:
		r.Ends.Other++
	}
}

func stateName(o *orderv1.Order) string {
	return strings.TrimPrefix(o.GetStatus().String(), "ORDER_STATUS_")
}

func (r *report) judge() {
	failed, broken := r.Orders.Rejected+r.Orders.Unanswered, 0
	for _, i := range r.Invariants {
		if len(i.Broken) > 0 {
			broken++
		}
	}
	switch {
	case len(r.Lost) > 0 || len(r.Wrong) > 0 || broken > 0:
		r.Verdict = fmt.Sprintf("FAILED: %d orders lost, %d wrong, %d of %d invariants broken", len(r.Lost), len(r.Wrong), broken, len(r.Invariants))
	case failed > 0:
		r.Verdict = fmt.Sprintf("FAILED: %d of %d orders could not be placed; none that was acknowledged is lost", failed, r.Orders.Wanted)
	case r.Stopped != "":
		r.OK = r.Stopped == interrupted
		r.Verdict = fmt.Sprintf("STOPPED by %s: %d of %d orders were placed and read back unchanged", r.Stopped, r.Orders.Placed, r.Orders.Wanted)
	default:
		r.OK = true
		r.Verdict = fmt.Sprintf("OK: all %d orders were placed and read back unchanged", r.Orders.Placed)
		if r.audited {
			r.Verdict += fmt.Sprintf(", and %d invariants hold", len(r.Invariants))
		}
	}
}

func (r *report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// shown is how many findings of a kind the table lists; JSON has all of them.
const shown = 10

func (r *report) writeTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	row("orders", "%d placed, %d rejected, %d unanswered (%d found later), %d not attempted",
		r.Orders.Placed, r.Orders.Rejected, r.Orders.Unanswered, r.Orders.FoundLater, r.Orders.NotAttempted)
	row("states", "%d PENDING, %d CONFIRMED, %d CANCELLED", r.States["PENDING"], r.States["CONFIRMED"], r.States["CANCELLED"])
	row("latency", "p50 %s, p95 %s, p99 %s, max %s (PlaceOrder, from the intended start)",
		r.Latency.P50, r.Latency.P95, r.Latency.P99, r.Latency.Max)
	row("rate", "%.1f/s offered, %.1f/s achieved, %d started late", r.Rate.Offered, r.Rate.Achieved, r.Rate.LateStart)
	row("calls", "%d, of which %d retries", r.Calls, r.Retries)
	row("same key again", "%d of %d answered with the same order", r.Repeats.Right, r.Repeats.Total)
	row("cancelled", "%d by customers, %d came too late", r.Ends.Customer, r.Cancellations.TooLate)
	row("refused", "%d declined, %d sold out, %d for other reasons", r.Ends.Declined, r.Ends.SoldOut, r.Ends.Other)
	row("watched", "%d, %d until final, %d reconnects", r.Watched.Orders, r.Watched.Final, r.Watched.Reconnects)
	row("read back", "%d by id, %d in the lists", r.ReadBack.ByID, r.ReadBack.InList)
	row("lost, wrong", "%d, %d", len(r.Lost), len(r.Wrong))
	row("run", "%s, seed %d, %.1fs", r.Run, r.Seed, r.Seconds)
	if err := table.Flush(); err != nil {
		return err
	}
	writeFindings(w, "lost", r.Lost)
	writeFindings(w, "wrong", r.Wrong)
	for reason, n := range tally(r.Failed) {
		fmt.Fprintf(w, "not placed  %d times: %s\n", n, reason)
	}
	if err := r.writeInvariants(w); err != nil {
		return err
	}
	if n := r.States["PENDING"]; n > 0 && !r.audited {
		fmt.Fprintf(w, "%d orders are PENDING: they wait for the checkout and are not lost.\n", n)
	}
	_, err := fmt.Fprintln(w, r.Verdict)
	return err
}

func (r *report) writeInvariants(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table)
	for _, i := range r.Invariants {
		verdict, n := "OK", fmt.Sprint(i.N)
		if len(i.Broken) > 0 {
			verdict, n = "BROKEN", fmt.Sprintf("by %d of %d", len(i.Broken), i.N)
		}
		fmt.Fprintf(table, "%s\t%s\t%s %s\n", verdict, i.Name, n, i.Of)
	}
	if r.audited {
		for _, name := range r.Unseen {
			fmt.Fprintf(table, "-\t%s\tnot visible from outside\n", name)
		}
	} else {
		fmt.Fprintf(table, "-\tmoney and stock\tchecked with --payment and --inventory\n")
	}
	fmt.Fprintln(table)
	if err := table.Flush(); err != nil {
		return err
	}
	for _, i := range r.Invariants {
		writeFindings(w, "broken  "+i.Name, i.Broken)
	}
	return nil
}

func writeFindings[T fmt.Stringer](w io.Writer, kind string, findings []T) {
	for i, f := range findings {
		if i == shown {
			fmt.Fprintf(w, "%s  and %d more (--output json lists all)\n", kind, len(findings)-shown)
			return
		}
		fmt.Fprintf(w, "%s  %s\n", kind, f)
	}
}

func tally(texts []string) map[string]int {
	counts := map[string]int{}
	for _, text := range texts {
		counts[text]++
	}
	return counts
}
