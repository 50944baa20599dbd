// Package platformfx wires the platform's packages into an Uber Fx application. It is the only
// package of the library that knows Fx: each function returns an fx.Option for one part, so that
// the linker drops the parts a service does not use.
//
// An application is a list of these options and its own constructors, run by [Run]:
//
//	platformfx.Run(
//		platformfx.Telemetry(cfg.Telemetry, os.Stdout),
//		platformfx.Admin(cfg.Admin),
//		platformfx.Postgres(cfg.Database),
//		platformfx.Health(cfg.Health),
//		platformfx.GRPCServer(cfg.Server),
//		fx.Invoke(registerMyService),
//	)
//
// Stopping does not follow the order of Fx's hooks. Every part registers what it has to do with
// [grpcserver.Server.OnShutdown], and one hook runs the server's Shutdown, where the order of the
// drain is written down once.
package platformfx
