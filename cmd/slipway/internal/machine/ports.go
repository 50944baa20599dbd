package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// Port is a fixed port on 127.0.0.1 that somebody wants to listen on.
type Port struct {
	Number int
	// For says who wants it: "order gRPC".
	For string
}

// TakenError lists the ports that others hold.
type TakenError struct {
	Ports []TakenPort
}

// TakenPort is a port that another process holds.
type TakenPort struct {
	Port
	// Holder describes that process. It is empty when it cannot be found out.
	Holder string
}

// Error names every port with its holder, a line each.
func (e *TakenError) Error() string {
	var b strings.Builder
	b.WriteString("port taken:")
	if len(e.Ports) > 1 {
		fmt.Fprintf(&b, " %d ports:", len(e.Ports))
	}
	for _, p := range e.Ports {
		holder := "held by a process that could not be found out"
		if p.Holder != "" {
			holder = "held by " + p.Holder
		}
		fmt.Fprintf(&b, "\n  %-5d for %-14s %s", p.Number, p.For, holder)
	}
	return b.String()
}

// CheckPorts returns a TakenError with all ports that cannot be listened on.
func CheckPorts(ctx context.Context, ports []Port) error {
	var taken []TakenPort
	for _, p := range ports {
		err := tryPort(ctx, p.Number)
		switch {
		case err == nil:
		case errors.Is(err, syscall.EADDRINUSE):
			taken = append(taken, TakenPort{Port: p, Holder: holder(p.Number)})
		default:
			return fmt.Errorf("listen on port %d for %s: %w", p.Number, p.For, err)
		}
	}
	if len(taken) > 0 {
		return &TakenError{Ports: taken}
	}
	return nil
}

// FreeOffset returns the first of the offsets step, 2*step, … by which all the
// ports are free, or 0 when a dozen of them are not.
func FreeOffset(ctx context.Context, ports []Port, step int) int {
	for offset := step; offset <= 12*step; offset += step {
		free := true
		for _, p := range ports {
			free = free && tryPort(ctx, p.Number+offset) == nil
		}
		if free {
			return offset
		}
	}
	return 0
}

func tryPort(ctx context.Context, port int) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}
