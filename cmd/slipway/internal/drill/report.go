package drill

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// write writes the report and the results for CI, where a file is named.
func (r Result) write(report, junit string) error {
	var errs []error
	put := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("write report: %w", err))
		}
	}
	if report != "" {
		put(report, r.Markdown())
		put(strings.TrimSuffix(report, filepath.Ext(report))+".html", r.HTML())
	}
	if junit != "" {
		text, err := r.JUnit()
		errs = append(errs, err)
		put(junit, text)
	}
	return errors.Join(errs...)
}

func (o Outcome) verdict() string {
	switch {
	case o.Skipped != "":
		return "skipped: " + o.Skipped
	case o.Failed != "":
		return "FAILED: " + o.Failed
	default:
		return "ok"
	}
}

func (r Result) heading() string {
	return fmt.Sprintf("%s, time scale %g, %s", r.Began.UTC().Format(time.RFC3339), r.Scale, r.Took.Round(time.Second))
}

// Markdown returns the report: the times of each alert, what was seen, and the matrix of
// faults and alerts.
func (r Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Drills\n\n%s\n\n| alert | fault | fired | delivered | resolved | ended by | evidence | |\n|---|---|---|---|---|---|---|---|\n", r.heading())
	for _, o := range r.Outcomes {
		fmt.Fprintf(&b, "| %s | %s | %.1f s | %.1f s | %.1f s | %s | %s | %s |\n", o.Alert, o.Fault, o.Fired.Seconds(), o.Delivered.Seconds(), o.Resolved.Seconds(),
			o.EndedBy, cell(o.evidence("<br>")), cell(o.verdict()))
	}
	b.WriteString("\nFired and delivered: since the fault. Resolved: since the last command of what ended it. Of several runbooks it is not shown which one did.\n\n## Faults and alerts\n\n")
	alerts := Alerts()
	fmt.Fprintf(&b, "| fault | %s |\n|---|%s\n", strings.Join(alerts, " | "), strings.Repeat("---|", len(alerts)))
	for _, d := range Drills() {
		seen, ran := r.Matrix[d.Name]
		if !ran {
			continue
		}
		fmt.Fprintf(&b, "| %s |", d.Name)
		for _, a := range alerts {
			fmt.Fprintf(&b, " %s |", mark(d, seen, a))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n**x** fired as declared, x a consequence that was declared, s one that fired and was not delivered, b one of the error budget that an earlier fault has burnt, **?** fired and was not declared, . did not fire.\n")
	return b.String()
}

// marks are those of the matrix, from what says least to what says most.
var marks = []string{".", "b", "s", "x", "**x**", "**?**"}

// mark is what says most of the alerts of a name in a drill.
func mark(d Drill, seen []firing, alert string) string {
	most := "."
	if d.heartbeat && slices.Contains(d.names(), alert) {
		most = "**x**"
	}
	for _, f := range seen {
		if f.name() != alert {
			continue
		}
		if m := d.mark(f); slices.Index(marks, m) > slices.Index(marks, most) {
			most = m
		}
	}
	return most
}

func (d Drill) mark(f firing) string {
	switch {
	case anyOf(d.Alerts, f.Labels):
		return "**x**"
	case anyOf(d.Silenced, f.Labels):
		return "s"
	case anyOf(d.Also, f.Labels):
		return "x"
	case slices.Contains(budget, f.name()):
		return "b"
	default:
		return "**?**"
	}
}

func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", "\\|"), "\n", " ")
}

// HTML returns the timeline of every alert as a page.
func (r Result) HTML() string {
	const left, width, row = 300, 680, 26
	longest := time.Second
	for _, o := range r.Outcomes {
		longest = max(longest, o.Remedy+o.Resolved)
	}
	x := func(d time.Duration) float64 { return left + width*float64(d)/float64(longest) }
	var b strings.Builder
	fmt.Fprintf(&b, `<!doctype html><html lang="en"><meta charset="utf-8"><title>Drills</title><style>body{font:14px sans-serif;margin:2em}text{font:12px sans-serif}</style>
<h1>Drills</h1><p>%s</p><p>From the fault: waiting (grey), firing (orange), firing and delivered (red), after what ended it (blue).</p>
<svg width="%d" height="%d" role="img" aria-label="timeline">
`, html.EscapeString(r.heading()), left+width+140, row*(len(r.Outcomes)+1))
	for i, o := range r.Outcomes {
		y := row * (i + 1)
		fmt.Fprintf(&b, `<text x="0" y="%d">%s</text>`, y, html.EscapeString(o.Alert.String()))
		if !o.OK() {
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#a00">%s</text>`+"\n", left, y, html.EscapeString(o.verdict()))
			continue
		}
		for _, part := range []struct {
			from, to time.Duration
			colour   string
		}{{0, o.Fired, "#ccc"}, {o.Fired, o.Delivered, "#fa3"}, {o.Delivered, o.Remedy, "#d33"}, {o.Remedy, o.Remedy + o.Resolved, "#47b"}} {
			if part.to > part.from {
				fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="14" fill="%s"/>`, x(part.from), y-12, x(part.to)-x(part.from), part.colour)
			}
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%.1f s</text>`+"\n", x(o.Remedy+o.Resolved)+6, y, (o.Remedy + o.Resolved).Seconds())
	}
	b.WriteString("</svg>\n<h2>What fired</h2>\n<table><tr><th>alert</th><th>labels and value</th><th>ended by</th></tr>\n")
	for _, o := range r.Outcomes {
		fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", html.EscapeString(o.Alert.String()),
			strings.ReplaceAll(html.EscapeString(o.evidence("\n")), "\n", "<br/>"), html.EscapeString(o.EndedBy))
	}
	b.WriteString("</table></html>\n")
	return b.String()
}

type (
	suite struct {
		XMLName  xml.Name `xml:"testsuite"`
		Name     string   `xml:"name,attr"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Cases    []result `xml:"testcase"`
	}
	result struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    float64  `xml:"time,attr"`
		Failure *message `xml:"failure,omitempty"`
		Skipped *message `xml:"skipped,omitempty"`
	}
	message struct {
		Text string `xml:"message,attr"`
	}
)

// JUnit returns the results as CI servers read them.
func (r Result) JUnit() (string, error) {
	s := suite{Name: "drills", Tests: len(r.Outcomes)}
	for _, o := range r.Outcomes {
		c := result{Class: o.Drill, Name: o.Alert.String(), Time: (o.Remedy + o.Resolved).Seconds()}
		switch {
		case o.Skipped != "":
			c.Skipped = &message{o.Skipped}
			s.Skipped++
		case o.Failed != "":
			c.Failure = &message{o.Failed}
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	text, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write results: %w", err)
	}
	return xml.Header + string(text) + "\n", nil
}
