package config_test

import (
	"fmt"
	"os"
	"time"

	"github.com/slipwayhq/slipway/platform/config"
)

func Example() {
	var cfg struct {
		Addr    string        `env:"HTTP_ADDR,required"`
		Timeout time.Duration `env:"HTTP_TIMEOUT"`
		APIKey  config.Secret `env:"API_KEY"`
	}
	fmt.Println(config.Load([]string{"HTTP_TIMEOUT=30"}, &cfg))

	environ := []string{"HTTP_ADDR=:8080", "HTTP_TIMEOUT=30s", "API_KEY=k-123"}
	if err := config.Load(environ, &cfg); err != nil {
		fmt.Println(err)
	}
	_ = config.Print(os.Stdout, environ, &cfg)
	// Output:
	// invalid configuration, 2 problems:
	//   HTTP_ADDR: is required and not set
	//   HTTP_TIMEOUT: "30" is no duration: write for example 5s, 250ms or 1m30s
	// NAME          VALUE   SOURCE
	// HTTP_ADDR     :8080   environment
	// HTTP_TIMEOUT  30s     environment
	// API_KEY       ******  environment
}
