package devenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// Phase is how far an environment is.
type Phase string

// The phases, in their order.
const (
	Starting Phase = "starting"
	Ready    Phase = "ready"
	Stopping Phase = "stopping"
)

// State is what a running environment tells other commands about itself.
type State struct {
	proc.Identity
	Since time.Time `json:"since"`
	Phase Phase     `json:"phase"`
	Dir   string    `json:"dir"`
	// Log is the file that the output goes to, empty for a terminal.
	Log      string    `json:"log,omitempty"`
	Servers  []Server  `json:"servers"`
	Services []Service `json:"services"`
	Try      []string  `json:"try,omitempty"`
	// Look are commands that ask the observability stack.
	Look []string `json:"look,omitempty"`
}

// Server is a server that the environment has started or found.
type Server struct {
	Name string `json:"name"` // PostgreSQL, Redis, NATS
	Addr string `json:"addr"`
	// Source says where it comes from.
	Source string `json:"source"`
	// Data is the folder of its data, empty when that is not ours to know.
	Data string `json:"data,omitempty"`
}

// Service is a service that the environment runs.
type Service struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	GRPC string `json:"grpc"`
	// Admin is the address of the metrics and of the other admin pages.
	Admin string `json:"admin"`
	// DatabaseURL is empty for a service without a database.
	DatabaseURL string `json:"database_url,omitempty"`
}

// ErrNotRunning says that no environment of the project runs.
var ErrNotRunning = errors.New("slipway dev is not running here")

// Find returns the state of the project's running environment, or ErrNotRunning.
func Find(p *project.Project) (State, error) {
	text, err := os.ReadFile(layoutOf(p).state())
	if errors.Is(err, os.ErrNotExist) {
		return State{}, ErrNotRunning
	}
	if err != nil {
		return State{}, fmt.Errorf("read state of slipway dev: %w", err)
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("read state of slipway dev: %w", err)
	}
	if !s.Alive() {
		return State{}, ErrNotRunning
	}
	return s, nil
}

// EndLeft ends the processes that a killed environment of the project has left and
// returns their names. It does nothing while an environment runs.
func EndLeft(p *project.Project) ([]string, error) {
	at := layoutOf(p)
	if len(at.records().List()) == 0 {
		return nil, nil
	}
	lock, err := proc.TakeLock(at.lock())
	if errors.Is(err, proc.ErrLocked) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := at.records().Sweep()
	return names, errors.Join(err, lock.Release())
}

// DatabaseURL returns the address of a service's database.
func (s State) DatabaseURL(service string) (string, bool) {
	for _, svc := range s.Services {
		if svc.Name == service && svc.DatabaseURL != "" {
			return svc.DatabaseURL, true
		}
	}
	return "", false
}

// stateFile keeps the state on disk up to date.
type stateFile struct {
	path string

	mu    sync.Mutex
	state State
}

// update changes the state and writes it.
func (f *stateFile) update(change func(*State)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
	return proc.WriteFile(f.path, f.state)
}

func (f *stateFile) read() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *stateFile) remove() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove state: %w", err)
	}
	return nil
}
