//go:build broken

package main

var _ = doesNotExist
