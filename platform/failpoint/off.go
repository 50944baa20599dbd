//go:build !failpoints || !unix

package failpoint

// Enabled tells whether the program was built to crash. Guard with it what only makes a
// detail.
const Enabled = false

// At marks a place where the process may die. detail is what is behind the slash of its
// name; without one that is the function that called the package of the mark. It is safe
// for concurrent use, and does nothing without the build tag failpoints.
func At(Point, string) {}
