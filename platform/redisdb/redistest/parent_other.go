//go:build !linux

package redistest

import "syscall"

// diesWithParent has no counterpart here: a killed test may leave its server behind.
func diesWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
