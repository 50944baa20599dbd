package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// Options are the flags of a system's process.
type Options struct {
	// URL is the database, which has the system's tables already unless Install is set.
	URL     string
	Install bool
	// System is which one of those that the program has.
	System string
	// Name tells the processes of one system apart.
	Name string
	// Steps is where the participant listens. Empty means in this process: on loopback, or
	// with Local behind a function call.
	Steps string
	Local bool
	// Concurrency is how many sagas should run at once; 0 is the system's default.
	Concurrency int
}

// Bind makes the flags.
func (o *Options) Bind(flags *flag.FlagSet) {
	flags.StringVar(&o.URL, "url", "", "the database")
	flags.BoolVar(&o.Install, "install", false, "make the tables")
	flags.StringVar(&o.System, "system", "", "which system to run")
	flags.StringVar(&o.Name, "name", "", "the name of the process")
	flags.StringVar(&o.Steps, "steps", "", "where the participant listens; empty for one in the process")
	flags.BoolVar(&o.Local, "local", false, "call the participant in the process without HTTP")
	flags.IntVar(&o.Concurrency, "concurrency", 0, "sagas that should run at once; 0 is the system's default")
}

// Question is a line from the benchmark to the process. What is set is wanted.
type Question struct {
	Load    *Load    `json:"load,omitempty"`
	Start   []string `json:"start,omitempty"` // ids of sagas to start
	Clients int      `json:"clients,omitempty"`
	Counts  bool     `json:"counts,omitempty"`
}

// Answer is a line back. Error says what went wrong.
type Answer struct {
	Report Report `json:"report"`
	Counts Counts `json:"counts"`
	Error  string `json:"error,omitempty"`
}

// OpenFunc opens a system whose steps are called by call. A system that calls them itself
// finds the participant at url, which is empty if the participant is not to be called
// over HTTP.
type OpenFunc func(ctx context.Context, o Options, url string, call StepFunc) (System, error)

// Main is the main function of a system's process. It ends when its input does.
func Main(open OpenFunc) {
	var o Options
	o.Bind(flag.CommandLine)
	flag.Parse()
	// Libraries print to standard output, so answers go through a file of their own.
	const answers = 3
	if err := Serve(context.Background(), o, open, os.Stdin, os.NewFile(answers, "answers")); err != nil {
		fmt.Fprintln(os.Stderr, "saga system:", err)
		os.Exit(1)
	}
}

// Serve opens the system, says so with a line, and answers questions until in ends.
func Serve(ctx context.Context, o Options, open OpenFunc, in io.Reader, out io.Writer) error {
	p := NewParticipant()
	call, url := p.Call, o.Steps
	if !o.Local {
		if url == "" {
			local, stop, err := p.Serve()
			if err != nil {
				return err
			}
			defer stop()
			url = local
		}
		remote, closeAll := Remote(url, o.Name)
		defer closeAll()
		call = remote
	}
	sys, err := open(ctx, o, url, call)
	if err != nil {
		return fmt.Errorf("open %s: %w", o.System, err)
	}
	defer sys.Close()
	answers := json.NewEncoder(out)
	if err := answers.Encode(os.Getpid()); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	for lines := json.NewDecoder(bufio.NewReader(in)); ; {
		var q Question
		if err := lines.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read question: %w", err)
		}
		if err := answers.Encode(q.answer(ctx, sys, p)); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
}

func (q Question) answer(ctx context.Context, sys System, p *Participant) (a Answer) {
	var errs [3]error
	if q.Load != nil {
		a.Report, errs[0] = q.Load.Run(ctx, sys, p)
	}
	if len(q.Start) > 0 {
		errs[1] = StartAll(ctx, sys, q.Start, max(1, q.Clients))
	}
	if q.Counts {
		a.Counts, errs[2] = sys.Counts(ctx)
	}
	if err := errors.Join(errs[:]...); err != nil {
		a.Error = err.Error()
	}
	return a
}
