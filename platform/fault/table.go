package fault

import "errors"

// Rule says how one sentinel error is shown to a client.
type Rule struct {
	Target  error
	Code    Code
	Message string
	// Reason is the machine-readable name; see [Error].
	Reason string
}

// Table is the ordered list of rules of one edge. It is read only and safe for concurrent use.
type Table []Rule

// Classify turns any error into one that may be shown to a client: an [*Error] in the tree wins,
// then the first rule whose target is in the tree, then context errors. Everything else becomes
// Internal with a fixed text; the error itself is kept as the cause. Classify(nil) is nil.
func (t Table) Classify(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := From(err); ok {
		return e
	}
	for _, r := range t {
		if errors.Is(err, r.Target) {
			return &Error{Code: r.Code, Message: r.Message, Reason: r.Reason, Cause: err}
		}
	}
	if e := fromContext(err); e != nil {
		return e
	}
	return Wrap(err, Internal, "internal error")
}
