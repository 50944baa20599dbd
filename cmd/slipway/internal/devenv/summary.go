package devenv

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Summary writes what somebody needs who wants to use a running environment.
// Program is how the user calls this program.
func (s State) Summary(w io.Writer, program string) {
	addresses, width := map[string]string{}, s.width()
	for _, svc := range s.Services {
		addresses[svc.Name] = svc.GRPC
		fmt.Fprintf(w, "  %-*s gRPC     %s\n", width, svc.Name, svc.GRPC)
		fmt.Fprintf(w, "  %-*s metrics  http://%s/metrics\n", width, "", svc.Admin)
		if svc.DatabaseURL != "" {
			fmt.Fprintf(w, "  %-*s tables   psql '%s'\n", width, "", svc.DatabaseURL)
		}
	}
	for _, server := range s.Servers {
		fmt.Fprintf(w, "  %-*s %s (%s)\n", width, server.Name, server.Addr, server.Source)
	}
	fmt.Fprintf(w, "  %-*s %s\n", width, "data", s.Dir)
	for _, server := range s.Servers {
		if server.Name == "PostgreSQL" && server.Data != "" {
			fmt.Fprintf(w, "  %-*s %s\n", width, "", server.Data)
		}
	}
	if s.Log != "" {
		fmt.Fprintf(w, "  %-*s %s\n", width, "log", s.Log)
	}
	fmt.Fprintln(w)
	for _, command := range s.Try {
		fmt.Fprintf(w, "  try         %s\n", os.Expand(command, func(name string) string { return addresses[name] }))
	}
	for _, command := range s.Look {
		fmt.Fprintf(w, "  look        %s\n", command)
	}
	stop := "Ctrl-C, or " + program + " dev stop"
	if s.Log != "" {
		stop = program + " dev stop"
	}
	fmt.Fprintf(w, "  stop        %s\n", stop)
	fmt.Fprintf(w, "  start over  %s dev --fresh\n", program)
}

// width is that of the column of names.
func (s State) width() int {
	width := len("PostgreSQL") + 1
	for _, server := range s.Servers {
		width = max(width, len(server.Name))
	}
	return width
}

// addServer adds to the state what was started or found.
func (e *Env) addServer(s Server) error {
	return e.state.update(func(st *State) {
		st.Servers = append(st.Servers, s)
		slices.SortFunc(st.Servers, func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
	})
}
