// Package config turns the environment into a validated struct, once, at the start of a program.
//
// A program's configuration is a struct of the Configs of the components it uses. Their fields
// carry the names of their variables as `env` tags; the components themselves never read the
// environment.
//
//	type Config struct {
//		Server   grpcserver.Config
//		Database postgres.Config
//		APIKey   config.Secret `env:"API_KEY,required"`
//	}
//
// [Load] fails fast and names every mistake at once, so that a deployment is corrected in one
// round. [Print] shows the configuration in force with its secrets masked.
//
// The tags are those of github.com/caarlos0/env: "NAME", "NAME,required", envSeparator, and envPrefix
// on a nested struct, for a component that a program has two of. An empty variable counts as unset,
// as the OpenTelemetry specification has it: an empty line in a manifest is no value. Elements of a
// list are trimmed. Variables that no field names are ignored.
//
// The idea of a configuration that lives in the environment is from 12factor.net.
package config
