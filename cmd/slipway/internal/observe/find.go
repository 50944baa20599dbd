package observe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Find returns the programs of the components, searched for in dirs and then in the
// PATH of environ, and what is missing.
func Find(dirs, environ []string, components ...Component) (map[Component]string, []Missing) {
	found := map[Component]string{}
	var missing []Missing
	path := filepath.SplitList(lookup(environ, "PATH"))
	for _, c := range components {
		if program := findProgram(programs[c], dirs, path); program != "" {
			found[c] = program
			continue
		}
		missing = append(missing, Missing{Component: c, Reason: fmt.Sprintf("no program %s in %s or on the PATH: build it with: make stack",
			strings.Join(programs[c].names, " or "), strings.Join(dirs, ", "))})
	}
	return found, missing
}

// find is Find for what the options ask for.
func find(o Options) (map[Component]string, []Missing) {
	components := slices.Clone(o.Components)
	if o.PostgresURL == "" {
		components = slices.DeleteFunc(components, func(c Component) bool { return c == PostgresExporter })
	}
	return Find(o.ProgramDirs, o.Environ, components...)
}

func findProgram(p program, dirs, path []string) string {
	for _, dir := range slices.Concat(dirs, path) {
		for _, name := range p.names {
			file := filepath.Join(dir, name)
			info, err := os.Stat(file)
			if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
				continue
			}
			if slices.Contains(dirs, dir) || p.isIt == nil || p.isIt(file) {
				return file
			}
		}
	}
	return ""
}

// isLoki tells Grafana's Loki from other programs of that name: Debian has one for
// genetics.
func isLoki(file string) bool {
	out, err := exec.Command(file, "-version").CombinedOutput()
	return err == nil && strings.HasPrefix(string(out), "loki, version")
}

func lookup(environ []string, name string) string {
	value := ""
	for _, v := range environ {
		if key, val, _ := strings.Cut(v, "="); key == name {
			value = val
		}
	}
	return value
}
