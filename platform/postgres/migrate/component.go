package migrate

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	atlas "ariga.io/atlas/sql/migrate"
)

// Component is a set of migration files with a version history of its own.
type Component struct {
	// Name is the component's name in the history: lower case letters, digits,
	// - and _.
	Name string
	// FS holds the .sql files and atlas.sum at its root.
	FS fs.FS
}

// file is one migration.
type file struct {
	component, version, description, name string
	hash                                  string
	body                                  []byte
	stmts                                 []*atlas.Stmt
	txNone                                bool
}

var componentName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// read returns the files of every component, after checking that they are what
// their atlas.sum says.
func read(comps []Component) (map[string][]file, error) {
	all := make(map[string][]file, len(comps))
	var errs []error
	for _, c := range comps {
		if !componentName.MatchString(c.Name) {
			errs = append(errs, fmt.Errorf("component %q: the name must match %s", c.Name, componentName))
			continue
		}
		if _, ok := all[c.Name]; ok {
			errs = append(errs, fmt.Errorf("component %s: named twice", c.Name))
			continue
		}
		files, err := c.files()
		if err != nil {
			errs = append(errs, fmt.Errorf("component %s: %w", c.Name, err))
		}
		all[c.Name] = files
	}
	return all, errors.Join(errs...)
}

func (c Component) files() ([]file, error) {
	dir, err := c.load()
	if err != nil {
		return nil, err
	}
	if err := validate(dir); err != nil {
		return nil, err
	}
	found, err := dir.Files()
	if err != nil {
		return nil, fmt.Errorf("list migration files: %w", err)
	}
	var files []file
	for _, f := range found {
		parsed, err := c.parse(f)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		if n := len(files); n > 0 && files[n-1].version == parsed.version {
			return nil, fmt.Errorf("read %s: version %s is also that of %s", f.Name(), parsed.version, files[n-1].name)
		}
		files = append(files, parsed)
	}
	return files, nil
}

// load copies the files into the form that Atlas works on.
func (c Component) load() (*atlas.MemDir, error) {
	names, err := fs.Glob(c.FS, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migration files: %w", err)
	}
	dir := &atlas.MemDir{}
	for _, name := range append(names, atlas.HashFileName) {
		body, err := fs.ReadFile(c.FS, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no atlas.sum: validate says so
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if err := dir.WriteFile(name, body); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return dir, nil
}

// validate compares the files with atlas.sum.
func validate(dir atlas.Dir) error {
	const mend = "if that is intended, run: slipway migrate hash"
	err := atlas.Validate(dir)
	var sum *atlas.ChecksumError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &sum):
		return fmt.Errorf("%s was %s since atlas.sum was written; %s: %w", sum.File, sum.Reason, mend, err)
	default:
		return fmt.Errorf("atlas.sum does not vouch for the files; %s: %w", mend, err)
	}
}

func (c Component) parse(f atlas.File) (file, error) {
	parsed := file{
		component: c.Name, version: f.Version(), description: f.Desc(), name: f.Name(),
		hash: hashOf(f.Name(), f.Bytes()), body: f.Bytes(),
	}
	local, ok := f.(*atlas.LocalFile)
	if !ok || local.IsCheckpoint() {
		return file{}, errors.New("checkpoint files are not supported")
	}
	for _, mode := range local.Directive("txmode") {
		switch mode {
		case "none":
			parsed.txNone = true
		case "file":
		default:
			return file{}, fmt.Errorf("txmode %q is neither file nor none", mode)
		}
	}
	scanner := atlas.Scanner{ScannerOptions: atlas.ScannerOptions{
		MatchBeginAtomic: true, MatchDollarQuote: true, EscapedStringExt: true,
	}}
	var err error
	parsed.stmts, err = scanner.Scan(string(f.Bytes()))
	return parsed, err
}

// hashOf is the file's own hash: those in atlas.sum also cover the files before
// it, which would blame a file for a change of another.
func hashOf(name string, body []byte) string {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write(body)
	return "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// statementsHash covers the first n statements.
func (f file) statementsHash(n int) string {
	var text []byte
	for _, s := range f.stmts[:min(n, len(f.stmts))] {
		text = append(text, s.Text...)
		text = append(text, 0)
	}
	return hashOf(f.name, text)
}

// at names a statement for a person: file, number, line.
func (f file) at(i int) string {
	line := 1 + bytes.Count(f.body[:min(f.stmts[i].Pos, len(f.body))], []byte("\n"))
	return fmt.Sprintf("%s/%s, statement %d (line %d)", f.component, f.name, i+1, line)
}

// Hash writes the atlas.sum of the folder after its files were changed.
func Hash(dir string) error {
	local, err := atlas.NewLocalDir(dir)
	if err != nil {
		return fmt.Errorf("open migration folder: %w", err)
	}
	sum, err := local.Checksum()
	if err != nil {
		return fmt.Errorf("hash migration files: %w", err)
	}
	if err := atlas.WriteSumFile(local, sum); err != nil {
		return fmt.Errorf("write atlas.sum: %w", err)
	}
	return nil
}
