// Package project reads slipway.yaml, which names the services of a Go module and
// what each of them needs to run.
package project

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// FileName is the name of the file at the module's root.
const FileName = "slipway.yaml"

// ErrNotFound says that a folder and those above it hold no slipway.yaml.
var ErrNotFound = errors.New("no " + FileName + " found")

// What a service may need.
const (
	Postgres = "postgres"
	Redis    = "redis"
	NATS     = "nats"
)

// Project is a slipway.yaml.
type Project struct {
	// Dir is the folder of the file; the paths in it are relative to this one.
	Dir      string
	Services []Service
	// Try are commands for the closing summary of slipway dev. In them $NAME
	// stands for the gRPC address of the service NAME.
	Try []string
	// Load is a command that places traffic until it is ended, for slipway drill; $NAME
	// as in Try. Empty means none.
	Load string
}

// Service is a program of the project.
type Service struct {
	Name string
	// Package is the main package, as go build takes it: ./reference/order.
	Package string
	// Migrations is the folder of the SQL files. Empty means none.
	Migrations string
	// GRPC and Admin are the ports in development.
	GRPC, Admin int
	// Needs lists the servers that the service is given the address of.
	Needs []string
	// Calls maps an environment variable to the service whose address it gets.
	Calls map[string]string
}

// Open reads the slipway.yaml of dir or, when it has none, of the nearest folder
// above it. The error is ErrNotFound or lists everything that is wrong in the
// file, each with its line.
func Open(dir string) (*Project, error) {
	path, err := find(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read project: %w", err)
	}
	p, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func find(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolve folder %s: %w", dir, err)
	}
	for at := abs; ; at = filepath.Dir(at) {
		path := filepath.Join(at, FileName)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%w in %s or above it: change to a project, or write one that names your services", ErrNotFound, abs)
		}
	}
}

// Service returns the service of that name.
func (p *Project) Service(name string) (Service, bool) {
	for _, s := range p.Services {
		if s.Name == name {
			return s, true
		}
	}
	return Service{}, false
}

// Names lists the services in the order of the file.
func (p *Project) Names() []string {
	names := make([]string, len(p.Services))
	for i, s := range p.Services {
		names[i] = s.Name
	}
	return names
}

// Needs tells whether a service of the project needs the server.
func (p *Project) Needs(server string) bool {
	for _, s := range p.Services {
		if s.Need(server) {
			return true
		}
	}
	return false
}

// Need tells whether the service needs the server.
func (s Service) Need(server string) bool {
	for _, n := range s.Needs {
		if n == server {
			return true
		}
	}
	return false
}
