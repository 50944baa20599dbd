package main

import "context"

// dialOurs connects Slipway's driver for JetStream.
func dialOurs(_ context.Context, url string) (*async, error) {
	l, err := connectNATS(url)
	if err != nil {
		return nil, err
	}
	return &async{l}, nil
}
