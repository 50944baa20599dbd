// Package e2e runs the reference services as real processes against a real PostgreSQL and Redis,
// and looks at what a user, an operator and a collector would see. It has tests only.
package e2e
