// Package process runs the program that is running a second time, as a server in a process of
// its own, and talks to it in lines of JSON over its standard input and output.
package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to end once its input has.
const stopTimeout = 10 * time.Second

// Process is a started copy of this program. One goroutine at a time may use it.
type Process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File
	lines  *json.Decoder
	exited chan struct{}
}

// Start runs this program with args and decodes the first line that it writes into hello. The
// process is killed when ctx ends, and ends by itself when this one does.
func Start(ctx context.Context, hello any, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return start(exec.CommandContext(ctx, self, args...), hello, func(cmd *exec.Cmd, answers *os.File) { cmd.Stdout = answers })
}

// StartProgram is Start for another program, which writes its lines to the file descriptor
// 3: its libraries may print to standard output. That is thrown away.
func StartProgram(ctx context.Context, hello any, path string, args ...string) (*Process, error) {
	return start(exec.CommandContext(ctx, path, args...), hello, func(cmd *exec.Cmd, answers *os.File) { cmd.ExtraFiles = []*os.File{answers} })
}

func start(cmd *exec.Cmd, hello any, connect func(cmd *exec.Cmd, answers *os.File)) (*Process, error) {
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("open input of server: %w", err)
	}
	// Not StdoutPipe: Wait would close it while an answer is read.
	out, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open output of server: %w", err)
	}
	connect(cmd, write)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	_ = write.Close()
	p := &Process{cmd: cmd, in: in, out: out, lines: json.NewDecoder(out), exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // The exit code says all there is to know.
	}()
	if err := p.lines.Decode(hello); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for server: %w", err), p.Stop())
	}
	return p, nil
}

// Ask sends an empty line and decodes the answer into answer.
func (p *Process) Ask(answer any) error { return p.ask([]byte("\n"), answer) }

// AskAbout sends a question and decodes the answer into answer.
func (p *Process) AskAbout(question, answer any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("ask server: %w", err)
	}
	return p.ask(append(line, '\n'), answer)
}

func (p *Process) ask(line []byte, answer any) error {
	if _, err := p.in.Write(line); err != nil {
		return fmt.Errorf("ask server: %w", err)
	}
	if err := p.lines.Decode(answer); err != nil {
		return fmt.Errorf("ask server: %w", err)
	}
	return nil
}

// End sends sig and waits until the process is gone, at most grace, after which it is killed.
// It returns how long that took and the exit code, which is -1 if a signal ended the process.
func (p *Process) End(sig syscall.Signal, grace time.Duration) (took time.Duration, code int) {
	start := time.Now()
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.exited:
	case <-time.After(grace):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	took = time.Since(start)
	_, _ = p.in.Close(), p.out.Close()
	return took, p.cmd.ProcessState.ExitCode()
}

// Kill ends the process at once.
func (p *Process) Kill() { p.End(syscall.SIGKILL, stopTimeout) }

// Stop ends the process by ending its input.
func (p *Process) Stop() error {
	_ = p.in.Close()
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	_ = p.out.Close()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("server ended with exit code %d", code)
	}
	return nil
}

// Serve is the other side: it writes hello, answers each line of in with what answer returns,
// and returns when in ends.
func Serve(in io.Reader, out io.Writer, hello any, answer func() (any, error)) error {
	enc := json.NewEncoder(out)
	if err := enc.Encode(hello); err != nil {
		return fmt.Errorf("write address: %w", err)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		v, err := answer()
		if err != nil {
			return err
		}
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
	return nil
}
