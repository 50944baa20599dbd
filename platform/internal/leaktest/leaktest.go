// Package leaktest fails the tests of a package whose goroutines outlive them. Everything in the
// library that starts a goroutine promises that its caller can stop it.
package leaktest

import (
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests of m and exits: with an error when they failed, or when they left goroutines
// behind that do not end within a second or so. Call it from TestMain.
func Main(m *testing.M) { goleak.VerifyTestMain(m) }
