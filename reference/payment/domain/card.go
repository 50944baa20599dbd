package domain

// CardToken is what the provider knows a customer's card by. It goes from the caller to the provider
// and is kept nowhere: whatever prints it prints stars.
type CardToken string

// String hides the token.
func (CardToken) String() string { return "***" }

// GoString hides the token.
func (CardToken) GoString() string { return "***" }
