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
	addresses := map[string]string{}
	for _, svc := range s.Services {
		addresses[svc.Name] = svc.GRPC
		fmt.Fprintf(w, "  %-11s gRPC     %s\n", svc.Name, svc.GRPC)
		fmt.Fprintf(w, "  %-11s metrics  http://%s/metrics\n", "", svc.Admin)
		if svc.DatabaseURL != "" {
			fmt.Fprintf(w, "  %-11s tables   psql '%s'\n", "", svc.DatabaseURL)
		}
	}
	for _, server := range s.Servers {
		fmt.Fprintf(w, "  %-11s %s (%s)\n", server.Name, server.Addr, server.Source)
	}
	fmt.Fprintf(w, "  %-11s %s\n", "data", s.Dir)
	for _, server := range s.Servers {
		if server.Name == "PostgreSQL" && server.Data != "" {
			fmt.Fprintf(w, "  %-11s %s\n", "", server.Data)
		}
	}
	if s.Log != "" {
		fmt.Fprintf(w, "  %-11s %s\n", "log", s.Log)
	}
	fmt.Fprintln(w)
	for _, command := range s.Try {
		fmt.Fprintf(w, "  try         %s\n", os.Expand(command, func(name string) string { return addresses[name] }))
	}
	stop := "Ctrl-C, or " + program + " dev stop"
	if s.Log != "" {
		stop = program + " dev stop"
	}
	fmt.Fprintf(w, "  stop        %s\n", stop)
	fmt.Fprintf(w, "  start over  %s dev --fresh\n", program)
}

// addServer adds to the state what was started or found.
func (e *Env) addServer(s Server) error {
	return e.state.update(func(st *State) {
		st.Servers = append(st.Servers, s)
		slices.SortFunc(st.Servers, func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
	})
}
