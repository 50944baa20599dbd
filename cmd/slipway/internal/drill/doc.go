// Package drill fires every alert of ops/ for real: it runs a project with its servers and
// the observability stack, puts a fault into the running system, waits until Prometheus
// fires and Alertmanager delivers, follows the runbook, and waits until it is over.
//
// A drill declares the alerts that its fault must raise, with the labels that they must have.
// Any other alert that comes up before all is quiet again is a failure too, unless it is
// declared as a consequence: the result is a matrix of faults and alerts.
//
// Durations are those of a time scale of 60; for a smaller one they are stretched.
package drill
