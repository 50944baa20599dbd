// Package console writes what the command has to say: results and logs to the
// output, progress and notices to the error output, with a live line and colours
// only where a person looks at a terminal.
package console

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Console is safe for concurrent use: lines never mix.
type Console struct {
	in       io.Reader
	out, err io.Writer
	colour   bool
	live     bool // the error output can redraw a line

	mu     sync.Mutex
	status string // the live line that stands there now
	once   sync.Once
	broken chan struct{}
}

// New makes a console. environ decides on colours: NO_COLOR and TERM=dumb switch
// them off.
func New(in io.Reader, out, err io.Writer, environ []string) *Console {
	plain := slices.ContainsFunc(environ, func(v string) bool {
		return v == "TERM=dumb" || strings.HasPrefix(v, "NO_COLOR=") && v != "NO_COLOR="
	})
	return &Console{
		in: in, out: out, err: err,
		colour: isTerminal(out) && !plain,
		live:   isTerminal(err) && !slices.Contains(environ, "TERM=dumb"),
		broken: make(chan struct{}),
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Colour tells whether the output shows colours.
func (c *Console) Colour() bool { return c.colour }

// Write writes whole lines to the output. It lets Console stand in for an
// io.Writer.
func (c *Console) Write(lines []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	n, err := c.out.Write(lines)
	c.redraw()
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) {
		c.once.Do(func() { close(c.broken) })
	}
	return n, err
}

// Broken is closed when nobody reads the output any more, as after `| head`.
func (c *Console) Broken() <-chan struct{} { return c.broken }

// Printf writes a line to the output.
func (c *Console) Printf(format string, args ...any) {
	fmt.Fprintf(c, format+"\n", args...)
}

// Notef writes a line to the error output.
func (c *Console) Notef(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	fmt.Fprintf(c.err, format+"\n", args...)
	c.redraw()
}

// Notices returns the error output as a writer of whole lines.
func (c *Console) Notices() io.Writer { return notices{c} }

type notices struct{ c *Console }

func (n notices) Write(lines []byte) (int, error) {
	n.c.Notef("%s", strings.TrimSuffix(string(lines), "\n"))
	return len(lines), nil
}

// ErrNotAsked says that Confirm found nobody to ask.
var ErrNotAsked = errors.New("nobody to ask: this is no terminal")

// Interactive tells whether Confirm has somebody to ask.
func (c *Console) Interactive() bool { return isTerminal(c.in) }

// Confirm asks a question on the terminal. Anything but yes is no.
func (c *Console) Confirm(question string) (bool, error) {
	if !c.Interactive() {
		return false, ErrNotAsked
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	fmt.Fprintf(c.err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(c.in).ReadString('\n')
	if err != nil {
		return false, ErrNotAsked
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

func (c *Console) erase() {
	if c.status != "" {
		fmt.Fprint(c.err, "\r\x1b[K")
	}
}

func (c *Console) redraw() { fmt.Fprint(c.err, c.status) }

// show replaces the live line; "" removes it.
func (c *Console) show(status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	c.status = status
	c.redraw()
}
