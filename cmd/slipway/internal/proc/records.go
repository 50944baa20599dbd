package proc

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Records is a folder with a file for every process of a project that runs.
type Records struct {
	// Dir must exist.
	Dir string
}

// Record is a file of the folder.
type Record struct {
	Name string `json:"name"`
	Identity
	StopSignal syscall.Signal `json:"stop_signal"`

	path string
}

// Extension is that of a record's file.
const Extension = ".process.json"

// Add records a running process.
func (r Records) Add(name string, pid int, stop syscall.Signal) (*Record, error) {
	id, _ := Identify(pid) // one that has ended already leaves a record of nobody
	record := &Record{Name: name, Identity: id, StopSignal: stop, path: filepath.Join(r.Dir, name+Extension)}
	if err := WriteFile(record.path, record); err != nil {
		return nil, fmt.Errorf("record process %s: %w", name, err)
	}
	return record, nil
}

// Remove deletes the record of a process that has ended. One that is gone already
// is no error.
func (r *Record) Remove() error {
	if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove record of process %s: %w", r.Name, err)
	}
	return nil
}

// List reads the records. A file that cannot be read names no process.
func (r Records) List() []*Record {
	paths, _ := filepath.Glob(filepath.Join(r.Dir, "*"+Extension))
	var records []*Record
	for _, path := range paths {
		record := &Record{Name: strings.TrimSuffix(filepath.Base(path), Extension)}
		text, err := os.ReadFile(path)
		if err == nil {
			_ = json.Unmarshal(text, record)
		}
		record.path = path
		records = append(records, record)
	}
	return records
}

// patience is how long a left process may take to end when asked.
const patience = 10 * time.Second

// Sweep ends the recorded processes that still run and deletes all records. It
// touches none that is not the very process that was recorded. Call it only when
// the project's own slipway is known to be gone. It returns the names of those
// that it ended.
func (r Records) Sweep() ([]string, error) {
	var ended []string
	var errs []error
	for _, record := range r.List() {
		if record.Alive() {
			ended = append(ended, record.Name)
		}
		if err := errors.Join(record.end(), record.Remove()); err != nil {
			errs = append(errs, fmt.Errorf("end %s, left by an earlier run: %w", record.Name, err))
		}
	}
	return ended, errors.Join(errs...)
}

func (r *Record) end() error {
	if !r.Alive() {
		return nil
	}
	defer r.waitReaped()
	_ = r.Signal(syscall.SIGCONT)
	_ = r.Signal(cmp.Or(r.StopSignal, syscall.SIGTERM))
	if r.WaitGone(patience) == nil {
		return nil
	}
	_ = r.Signal(syscall.SIGKILL)
	return r.WaitGone(patience)
}

// WriteFile replaces a file with the JSON of a value, readable for its owner only.
// Nobody ever reads half of it.
func WriteFile(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	return nil
}
