# The tasks of this repository. `make` alone lists them.

# The example (vanilla, react, react-transition, vue) that `make up` serves and `make
# deploy` changes; the directory of its built files; where the fleet keeps its
# releases and snapshots.
EXAMPLE ?= vanilla
HOST ?= build/host
DATA ?= build/data
REALM ?= http://127.0.0.1:4201

help: ## list the tasks
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

up: build ## build, then serve the example host with a whole fleet in one process
	@scripts/chrome >/dev/null
	@test -e $(HOST)/index.html || go run ./examples/deploy -example $(EXAMPLE) -dir $(HOST)
	bin/rewarm up --host $(HOST) --data $(DATA) $(UP_FLAGS)

deploy: ## put another release of the example in place: make deploy RELEASE=v2
	@go run ./examples/deploy -example $(EXAMPLE) -dir $(HOST) -release $(or $(RELEASE),v2) -to $(REALM)

build: ## build bin/rewarm
	CGO_ENABLED=0 go build -trimpath -o bin/rewarm ./cmd/rewarm

test: ## run all tests, with the race detector and a real Chrome
	@scripts/chrome >/dev/null
	go test -race -timeout 40m ./...

fuzz: ## fuzz every parser: make fuzz TIME=1m (for each target)
	scripts/fuzz -t $(or $(TIME),3s)

check: ## what the pipeline runs: format, vet, staticcheck, floors, then the tests
	scripts/check
	$(MAKE) --no-print-directory test

bench: ## measure beside the peers, print the table, write it to bench/results
	@scripts/chrome >/dev/null
	go test -run '^$$' -bench Figures -benchtime 1x -timeout 40m ./bench

soak: ## run the long tests: hours
	@scripts/chrome >/dev/null
	REWARM_SOAK=1 go test -race -count=1 -timeout 6h -v -run 'Chaos|DeployUnderLoad' ./e2e
	REWARM_SOAK=1 go test -count=1 -timeout 6h -v -run Memory ./bench

clean: ## remove what the other tasks built
	rm -rf bin build

.PHONY: help up deploy build test fuzz check bench soak clean
