// Package drill fires every alert of ops/ for real: it runs a project with its servers and
// the observability stack, puts a fault into the running system, waits until Prometheus
// fires and Alertmanager delivers, follows the runbook, and waits until it is over.
//
// A drill declares the alerts that its fault must raise. Any other alert that comes up is a
// failure too, unless it is declared as a consequence: the result is a matrix of faults and
// alerts.
package drill
