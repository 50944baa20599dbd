package main

import (
	driver "github.com/slipwayhq/slipway/platform/broker/nats"
)

// ourPublisher is Slipway's driver for JetStream with its connection.
type ourPublisher struct {
	*driver.Publisher

	conn *driver.Conn
}

// dialOurs connects to a server, of which one has to say whether it syncs always.
func dialOurs(url string, always bool) (*ourPublisher, error) {
	conn, err := driver.Connect(driver.Config{URL: url}, nil)
	if err != nil {
		return nil, err
	}
	pub, err := driver.NewPublisher(conn, driver.PublisherConfig{
		Stream: driver.Stream{Name: streamName, Subjects: []string{streamSubject}}, SyncAlways: always,
	}, nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &ourPublisher{pub, conn}, nil
}

func (p *ourPublisher) close() { p.conn.Close() }
