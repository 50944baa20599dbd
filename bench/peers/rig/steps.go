package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Body is what each call of a step carries.
const Body = `{"order":"0198b2f0-5b7e-7c4e-9d0b-6a1f2c3d4e5f","amount":1299,"currency":"EUR"}`

// maxConns bounds the connections of a process that are kept.
const maxConns = 16_384

// At returns where a step of a saga is called by the process with that name.
func At(url, saga, step, by string) string { return url + "/" + step + "/" + saga + "?by=" + by }

// Remote calls steps at a participant that listens on url, by the name of the process.
// The function closes the connections.
func Remote(url, by string) (call StepFunc, closeAll func()) {
	transport := &http.Transport{MaxIdleConns: maxConns, MaxIdleConnsPerHost: maxConns, IdleConnTimeout: time.Minute}
	client := &http.Client{Transport: transport}
	return func(ctx context.Context, saga, step string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, At(url, saga, step, by), strings.NewReader(Body))
		if err != nil {
			return fmt.Errorf("make request of step: %w", err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("call step: %w", err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		switch {
		case err != nil:
			return fmt.Errorf("read answer of step: %w", err)
		case res.StatusCode == http.StatusConflict:
			return ErrRejected
		case res.StatusCode != http.StatusOK:
			return fmt.Errorf("call step: answer %d", res.StatusCode)
		}
		return nil
	}, transport.CloseIdleConnections
}
