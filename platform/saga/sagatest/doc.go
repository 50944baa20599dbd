// Package sagatest runs a saga in a unit test: in memory, in one goroutine, and without waiting, since
// its clock is virtual. The steps are the real ones, called as a runner calls them, with the state read
// from JSON each time; what goes wrong is injected.
//
//	r := sagatest.Run(t, checkout, State{OrderID: "o-1"},
//		sagatest.Fail("authorize-payment", saga.Rejected(errDeclined)),
//		sagatest.FailTimes("release-stock", 3, errUnavailable),
//		sagatest.Crash("reserve-stock"),
//	)
//	require.Equal(t, saga.Compensated, r.Status)
//	require.Equal(t, 4, r.Attempts("release-stock"))
//
// A run ends when the saga is over, or when it needs an operator: [Result.Operate] is that operator.
package sagatest
