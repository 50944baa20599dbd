// Package inbox applies messages exactly once, and stores those that it cannot
// apply where they block nobody and nobody loses them.
package inbox
