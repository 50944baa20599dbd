package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/testcontainers/testcontainers-go"
	rediscontainer "github.com/testcontainers/testcontainers-go/modules/redis"
)

// image is what runs when Docker answers and no server is installed.
const image = "redis:7.4-alpine"

// provider starts servers of one kind.
type provider struct {
	name  string
	start func(tb testing.TB) backend
}

// decide looks once what this machine offers and says so.
var decide = sync.OnceValue(func() provider {
	p := choose()
	fmt.Fprintln(os.Stderr, "redistest: tests run on", p.name)
	return p
})

func choose() provider {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if binary, err := exec.LookPath(name); err == nil {
			return provider{binary, func(tb testing.TB) backend { tb.Helper(); return startProcess(tb, binary) }}
		}
	}
	if dockerAnswers() {
		return provider{"Docker, " + image, startContainer}
	}
	return provider{"miniredis, because neither redis-server nor Docker is there", startMini}
}

func startMini(tb testing.TB) backend {
	tb.Helper()
	return newProxied(tb, miniredis.RunT(tb).Addr())
}

func startContainer(tb testing.TB) backend {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // it may pull the image
	defer cancel()
	container, err := rediscontainer.Run(ctx, image)
	testcontainers.CleanupContainer(tb, container)
	if err != nil {
		tb.Fatalf("start redis container: %v", err)
	}
	endpoint, err := container.PortEndpoint(ctx, "6379/tcp", "")
	if err != nil {
		tb.Fatalf("find redis container: %v", err)
	}
	return newProxied(tb, endpoint)
}

// dockerAnswers asks the engine; the library panics where it finds no host to ask.
func dockerAnswers() (answers bool) {
	defer func() {
		if recover() != nil {
			answers = false
		}
	}()
	docker, err := testcontainers.ProviderDefault.GetProvider()
	if err != nil {
		return false
	}
	defer docker.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return docker.Health(ctx) == nil
}

// freeAddr returns a loopback address that was free a moment ago.
func freeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
