//go:build !race

package saga_test

// raced tells that the race detector slows everything down.
const raced = false
