package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a server that runs as a child of the test.
type process struct {
	binary  string
	dir     string
	address string
	command *exec.Cmd
	ended   chan struct{} // closed when the child is gone
}

func startProcess(tb testing.TB, binary string) backend {
	tb.Helper()
	p := &process{binary: binary, dir: tb.TempDir()}
	tb.Cleanup(p.stop)
	var err error
	for range 5 { // somebody else may take the free port first
		if p.address, err = freeAddr(); err == nil {
			err = p.start()
		}
		if err == nil {
			return p
		}
	}
	tb.Fatalf("start %s: %v", binary, err)
	return nil
}

func (p *process) addr() string { return p.address }

func (p *process) start() error {
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return err
	}
	log := filepath.Join(p.dir, "redis.log")
	p.command = exec.Command(p.binary, "--bind", "127.0.0.1", "--port", port,
		"--save", "", "--appendonly", "no", "--dir", p.dir, "--logfile", log)
	p.command.SysProcAttr = diesWithParent()
	if err := p.command.Start(); err != nil {
		return err
	}
	command, ended := p.command, make(chan struct{})
	p.ended = ended
	go func() {
		defer close(ended)
		_ = command.Wait()
	}()
	if err := p.awaitAnswer(); err != nil {
		p.stop()
		text, _ := os.ReadFile(log)
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// awaitAnswer returns when the server answers a PING.
func (p *process) awaitAnswer() error {
	deadline := time.After(patience)
	for {
		if pings(p.address) {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New("the server ended at once")
		case <-deadline:
			return fmt.Errorf("no answer within %s", patience)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (p *process) stop() {
	if p.ended == nil {
		return
	}
	_ = p.command.Process.Kill()
	<-p.ended
}

func (p *process) pause()  { _ = p.command.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() { _ = p.command.Process.Signal(syscall.SIGCONT) }

// pingCommand is PING in the protocol; not every server takes the plain word.
const pingCommand = "*1\r\n$4\r\nPING\r\n"

func pings(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(conn, pingCommand); err != nil {
		return false
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(answer, "+PONG")
}
