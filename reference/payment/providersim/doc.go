// Package providersim is a payment provider for development and tests, behind real HTTP. No money
// moves.
//
//	PUT  /v1/charges/{key}           {"amount": {"currency": "EUR", "minor": 700}, "card_token": "tok_ok"}
//	GET  /v1/charges/{key}
//	POST /v1/charges/{key}/void
//	POST /v1/charges/{key}/capture   {"amount": {...}}
//	POST /v1/charges/{key}/refund    {"amount": {...}}
//	GET  /ledger                     every effect so far, a JSON object a line
//	GET, PUT /admin/faults           what goes wrong, see Faults
//
// Calls are idempotent by key: one that is repeated is answered with the charge and does nothing. 404
// comes with {"state": "none"} and means that nothing is known of the key. A void of such a key leaves
// no trace: an authorization that is still on its way succeeds after it. 409 comes with the charge
// whose state does not allow the call, 422 means another amount than that of the charge.
//
// The token of the card decides what becomes of an authorization:
//
//	tok_ok                 authorized, as is every token without a meaning
//	tok_declined           declined, also tok_insufficient_funds, tok_expired_card, tok_stolen_card
//	tok_error              500, always, without effect
//	tok_flaky, tok_flaky_5 500 at the first two, five attempts
//	tok_slow               authorized after a while
//	tok_timeout            authorized and never answered
//	tok_timeout_lost       never answered and never authorized
//	tok_late               504; authorized some seconds later, whatever happens until then
//
// What has happened is in a [Ledger] before it is answered, and is loaded from it at the start. What
// tok_late has still to do is not: a provider that is killed forgets it.
package providersim
