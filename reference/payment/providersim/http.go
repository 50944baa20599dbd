package providersim

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// answer writes the charge, or the error with the status that it stands for.
func answer(w http.ResponseWriter, ch Charge, err error) {
	status := http.StatusOK
	switch {
	case err == nil:
	case errors.Is(err, errNoCharge):
		status = http.StatusNotFound
	case errors.Is(err, errState):
		status = http.StatusConflict
	case errors.Is(err, errOtherAmount), errors.Is(err, errNoAmount):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, errGateway):
		status = http.StatusGatewayTimeout
	default: // Also a ledger that takes nothing: the call has no effect that anybody may believe in.
		status = http.StatusInternalServerError
	}
	switch status {
	case http.StatusNotFound:
		writeJSON(w, status, Charge{State: stateNone})
	case http.StatusOK, http.StatusConflict:
		writeJSON(w, status, ch)
	default:
		http.Error(w, err.Error(), status)
	}
}

func (s *Simulator) showLedger(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	encoder := json.NewEncoder(w)
	for _, e := range s.charges.ledger.Entries() {
		if encoder.Encode(e) != nil {
			return // The client is gone.
		}
	}
}

func (s *Simulator) showFaults(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.current())
}

func (s *Simulator) changeFaults(w http.ResponseWriter, r *http.Request) {
	var f Faults
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, &f)
	}
	if err == nil {
		err = s.SetFaults(f)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.showFaults(w, r)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
