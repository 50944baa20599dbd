package grpcserver

import "context"

// Principal is who makes a call, as the authenticator found out.
type Principal struct {
	// ID is stable and unique; it appears in access logs, so it must not be personal data.
	ID string
}

type principalKey struct{}

// PrincipalFrom returns the principal of the call that ctx belongs to, and false if the
// method is public or the server has no authenticator.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// ContextWithPrincipal returns a context that [PrincipalFrom] finds p in, for tests of
// handlers.
func ContextWithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}
