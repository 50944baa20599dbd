package telemetry

import "fmt"

// Environment is where a service runs. The set is closed: a misspelt "prod" must not silently get
// the sampling of development.
type Environment string

// The environments.
const (
	Development Environment = "development"
	Staging     Environment = "staging"
	Production  Environment = "production"
)

// UnmarshalText accepts the three environments and nothing else; no text at all is [Development].
func (e *Environment) UnmarshalText(text []byte) error {
	switch v := Environment(text); v {
	case Development, Staging, Production:
		*e = v
		return nil
	case "":
		*e = Development
		return nil
	}
	return fmt.Errorf("%q is no environment: use development, staging or production", text)
}
