package main

import (
	"fmt"
	"net"
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/temporal"
)

// plugin is that of the faster driver.
const plugin = postgresql.PluginNamePGX

const (
	// shards is how many parts of the history are locked apart, each with one write at a time;
	// what Temporal recommends for a small production cluster.
	shards   = 512
	maxConns = 64
)

// newServer returns a server with all four services in this process.
func newServer(db database) (server temporal.Server, frontend string, err error) {
	c := &config.Config{Services: map[string]config.Service{}}
	ports := map[string]int{}
	for _, name := range temporal.DefaultServices {
		grpc, err := freePort()
		if err != nil {
			return nil, "", err
		}
		membership, err := freePort()
		if err != nil {
			return nil, "", err
		}
		ports[name] = grpc
		c.Services[name] = config.Service{RPC: config.RPC{GRPCPort: grpc, MembershipPort: membership, BindOnLocalHost: true}}
	}
	frontend = hostPort(ports["frontend"])
	store := func(name string) config.DataStore {
		return config.DataStore{SQL: &config.SQL{
			PluginName: plugin, DatabaseName: name, ConnectAddr: net.JoinHostPort(db.host, db.port), ConnectProtocol: "tcp",
			User: db.user, Password: db.password, MaxConns: maxConns, MaxIdleConns: maxConns, MaxConnLifetime: time.Hour,
		}}
	}
	c.Persistence = config.Persistence{
		DefaultStore: "history", VisibilityStore: "visibility", NumHistoryShards: shards,
		DataStores: map[string]config.DataStore{"history": store(db.name), "visibility": store(db.visibility())},
	}
	c.Global.Membership = config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: "127.0.0.1"}
	c.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10, MasterClusterName: "active", CurrentClusterName: "active",
		ClusterInformation: map[string]cluster.ClusterInformation{"active": {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend}},
	}
	c.DCRedirectionPolicy = config.DCRedirectionPolicy{Policy: "noop"}
	c.Archival = config.Archival{History: config.HistoryArchival{State: "disabled"}, Visibility: config.VisibilityArchival{State: "disabled"}}
	c.NamespaceDefaults = config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
		History: config.HistoryArchivalNamespaceDefaults{State: "disabled"}, Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
	}}
	c.PublicClient = config.PublicClient{HostPort: frontend}
	server, err = temporal.NewServer(
		temporal.WithConfig(c), temporal.ForServices(temporal.DefaultServices), temporal.WithLogger(log.NewNoopLogger()),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return authorization.NewNoopClaimMapper() }),
	)
	if err != nil {
		return nil, "", fmt.Errorf("make server: %w", err)
	}
	return server, frontend, nil
}
