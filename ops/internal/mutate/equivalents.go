package main

import "regexp"

// Reasons for which no test can tell a mutant from the rule.
const (
	sign   = "only whether it is above 0 counts, which no other scale or sum of what is not negative changes"
	scale  = "a quantile of rates and one of increases are the same"
	border = "no measured latency is exactly a second"
	counts = "writes are counted in whole numbers"
)

// equivalents are those mutants, with why.
var equivalents = map[string]string{
	`DeadLettersGrowing: sum -> max after "rvice, consumer) (dead_letters) > 0 and"`:        sign,
	`DeadLettersGrowing: increase -> rate after "rs) > 0 and sum by (service, consumer) ("`: sign,
	`DependencyDown: max -> sum after ""`:                                                   sign,
	`RelayFenced: 4 -> 3.2 after "se(outbox_fenced_writes_total[10m])) >="`:                 counts,
	`SagaCompensationFailed: max -> sum after ""`:                                           sign,
	`SlowRequests: rate -> increase after ".95, sum by (service, grpc_method, le) ("`:       scale,
	`SlowRequests: > -> >= after "ary\", grpc_service!~\"grpc[.].*\"}[5m])))"`:              border,
}

var place = regexp.MustCompile(` at \d+$`)

// plain is what was changed without its place, which moves with every edit.
func plain(what string) string { return place.ReplaceAllString(what, "") }
