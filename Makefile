# Slipway's commands. `make help` lists them; the pipeline calls the same ones.

.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
ARGS ?=

# The developer tools are pinned, one module each under tools/, and built into .bin/.

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

## Run

.PHONY: dev
dev: .bin/slipway ## Run the reference system on this machine (ARGS="--fresh --port-offset 100")
	@exec .bin/slipway dev $(ARGS)

.PHONY: shop
shop: ## Place 500 orders against the running system (ARGS="--orders 1000 --rate 100")
	go run ./reference/shopper $(ARGS)

.PHONY: .bin/slipway
.bin/slipway:
	@echo "building slipway ..."
	@go build -o $@ ./cmd/slipway

## Check

.PHONY: test
test: servers .bin/gotestsum ## Run every test; installs the servers it needs and prints what it skipped and why
	@mkdir -p .cache
	.bin/gotestsum --format pkgname --format-hide-empty-pkg --jsonfile .cache/test.json -- \
	  -race -shuffle=on -timeout 20m $(ARGS) ./...
	cd bench && ../.bin/gotestsum --format pkgname --format-hide-empty-pkg -- -timeout 20m ./...

.PHONY: test-stack
test-stack: .bin/gotestsum ## Run the tests that need programs of make stack; prints what was left out
	.bin/gotestsum --format pkgname -- -count=1 -timeout 10m $(ARGS) ./cmd/slipway/internal/observe ./ops/...
	.bin/gotestsum --format pkgname -- -count=1 -timeout 15m -run 'TestDashboards|TestTelemetry|TestGuide' ./reference/e2e

.PHONY: drills
drills: servers .bin/slipway ## Fire every alert for real, at sixty times the speed (ARGS="SagaStuck", ARGS=--list); reports in .cache/
	@mkdir -p .cache
	.bin/slipway drill --report .cache/drills.md --junit .cache/drills.xml $(ARGS)

.PHONY: cover
cover: servers ## Run the tests with coverage and print the share of each package
	go test -cover ./... | grep -v 'no test files'

.PHONY: lint
lint: .bin/golangci-lint .bin/buf proto-deps ## Lint the Go code and the API definitions
	.bin/golangci-lint run ./...
	cd bench && ../.bin/golangci-lint run --config ../.golangci.yml ./...
	.bin/buf lint
	.bin/buf format --diff --exit-code proto

.PHONY: simulate
simulate: ## Let the saga engine and the relay live through a million random schedules each; a failing one is printed
	go test ./platform/saga -count=1 -v -run '^TestSimulation$$' -saga.schedules=1000000
	GOGC=400 go test ./platform/outbox -count=1 -v -run '^TestSimulation$$' -outbox.schedules=1000000 -timeout 30m

.PHONY: mutate-rules
mutate-rules: servers ## Break the alert rules in every known way and demand that their tests notice (ARGS="-rule OutboxStalled")
	go run ./ops/internal/mutate $(ARGS)

.PHONY: breaking
breaking: .bin/buf proto-deps ## Compare the API definitions with the merge base (BASE=origin/main)
	tools/buf-breaking.sh

.PHONY: generate
generate: .bin/buf .bin/protoc-gen-go .bin/sqlc .bin/mockery proto-deps ## Regenerate gRPC, SQL and mock code
	.bin/buf generate
	.bin/sqlc generate
	.bin/mockery --log-level error
	cd bench && ../.bin/buf generate

.PHONY: verify-generate
verify-generate: generate ## Fail when generated code differs from its sources
	@git diff --exit-code --stat -- gen reference bench && test -z "$$(git ls-files --others --exclude-standard -- gen reference bench)" \
	  || { echo "generated code is stale: run 'make generate' and commit the result"; exit 1; }

.PHONY: check
check: test simulate lint mutate-rules breaking verify-generate ## Everything the pipeline checks but the drills

## Measure

.PHONY: bench-chain
bench-chain: ## Compare the interceptor chain with bare grpc-go and with the usual chain
	cd bench && go run ./chain $(ARGS)

.PHONY: bench-drain
bench-drain: ## Count failed calls over rolling restarts, with naive and kill -9 controls
	cd bench && go run ./drain $(ARGS)

.PHONY: bench-outbox
bench-outbox: ## Compare the outbox with its peers: speed, order, losses (ARGS="B1 B5", ARGS=-quick)
	cd bench && go run ./outbox $(ARGS)

.PHONY: bench-saga
bench-saga: ## Compare sagas with their peers: speed, undoing, recovery, waiting, costs (ARGS="B7 B9", ARGS=-quick)
	cd bench && go run ./saga $(ARGS)

## Prepare

.PHONY: servers
servers: ## Install PostgreSQL, Redis and the tools that test alerts, where they are missing
	@tools/servers.sh

.PHONY: tools
tools: .bin/buf .bin/sqlc .bin/mockery .bin/golangci-lint .bin/gotestsum .bin/protoc-gen-go ## Build the pinned developer tools

.PHONY: stack
stack: ## Build the observability stack from pinned source (ARGS="otelcol prometheus" builds only those)
	@tools/stack.sh $(ARGS)

define tool_rule
.bin/$(1): tools/$(2)/go.mod tools/$(2)/go.sum
	@echo "building $(1) ..."
	@cd tools/$(2) && go build -trimpath -ldflags '-s -w' -o ../../.bin/ tool
	@touch $$@
endef
$(foreach t,buf sqlc mockery golangci-lint gotestsum,$(eval $(call tool_rule,$(t),$(t))))
$(eval $(call tool_rule,protoc-gen-go,protobuf))

# protovalidate's schema comes out of the Go module cache, verified by the checksum
# database: no account and no Buf Schema Registry needed.
.PHONY: proto-deps
proto-deps: .cache/protovalidate/buf/validate/validate.proto
.cache/protovalidate/buf/validate/validate.proto: tools/protobuf/go.mod
	@mkdir -p $(@D)
	@cd tools/protobuf && go mod download github.com/bufbuild/protovalidate
	@install -m 644 "$$(cd tools/protobuf && go list -m -f '{{.Dir}}' github.com/bufbuild/protovalidate)/proto/protovalidate/buf/validate/validate.proto" $@

.PHONY: clean
clean: ## Remove built binaries and caches of this tree (not the data of make dev)
	rm -rf .bin .cache
