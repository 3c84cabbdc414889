# Every target with a "##" shows in `make help`.
# PEERS=1: a test whose peer (mosquitto, nats, openssl) is missing fails.
# BRIDGE_PROOF_SEED=17 make faults: the choices of an earlier run.
PEERS    ?= $(BRIDGE_REQUIRE_PEERS)
FUZZTIME ?= 30s
PKG      ?= ./...
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export BRIDGE_REQUIRE_PEERS := $(PEERS)
export FAULT_MINUTES BRIDGE_PROOF_SEED

.DEFAULT_GOAL := help
.PHONY: help build test race lint vet vulncheck fuzz simulate faults bench demo cover image certs ci

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the programs into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

test: ## Run the tests (PKG=./bridge for one package, PEERS=1 to demand the peers)
	go test $(PKG)

race: ## Run the tests under the race detector
	go test -race -short $(PKG)

vet: ## Check formatting and run go vet
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run: gofmt -w ."; exit 1; }
	go vet ./...

lint: vet ## Run staticcheck too
	go run $(STATICCHECK) ./...

vulncheck: ## Look for known vulnerabilities (GOVULNDB names a mirror of the database)
	.ci/vulncheck

fuzz: ## Run every fuzzer in turn (FUZZTIME=30s each)
	@set -e; for pkg in $$(go list $(PKG)); do \
	  found=$$(go test -list '^Fuzz' $$pkg); \
	  for f in $$(echo "$$found" | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; \
	    go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

simulate: ## Run the simulation from SEEDS=100000 seeds
	SIMULATE_SEEDS=$(or $(SEEDS),100000) go test -count=1 -timeout 2h ./internal/simulate

faults: ## Kill, cut and freeze everything under load (FAULT_MINUTES=30: all of it mixed)
	@log=$$(mktemp); \
	{ BRIDGE_FAULTS=1 go test -count=1 -v -timeout 0 \
	  $(if $(FAULT_MINUTES),-run '^TestMixedFaults' ./internal/proof/cluster,./internal/proof/...); \
	  echo $$? >$$log.rc; } 2>&1 | tee $$log; \
	echo; awk '/^\| / && !($$2 ~ /^(fault|---)$$/ && seen[$$2]++)' $$log; \
	rc=$$(cat $$log.rc); rm -f $$log $$log.rc; exit $$rc

bench: ## Measure the bridge against the bare publisher on this machine
	go run ./cmd/mqtt-nats-bridge bench

demo: ## Show the whole job, with nothing installed
	go run ./cmd/mqtt-nats-bridge demo

cover: ## Write coverage.out and print the total
	go test -short -coverpkg=./... -coverprofile=coverage.out $(PKG)
	@go tool cover -func=coverage.out | tail -n 1

image: ## Build the container image
	docker build -t mqtt-nats-bridge:1.0.0 --build-arg COMMIT="$$(git rev-parse HEAD)" --build-arg DATE="$$(git log -1 --format=%cI)" .

certs: ## Make certificates and passwords for docker compose
	deploy/make-certs.sh

ci: ## Do what the continuous integration does
	.ci/run
