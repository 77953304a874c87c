# make demo: a pool on a local cluster. make test: everything. Neither needs AWS.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
SQLC        := github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1

# The examples need Go 1.26, everything else Go 1.25.
GO_MINOR := $(shell go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
EXAMPLES := $(if $(filter 25,$(GO_MINOR)),,examples)
MODULES  := . examples/quickstart $(EXAMPLES) compare

# The race detector needs a C compiler; without one Go reports CGO_ENABLED=0.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

.PHONY: demo test lint bench soak conformance setup

demo: setup
	cd examples/quickstart && go run .

test: setup lint
	@[ -n "$(RACE)" ] || echo "no C compiler found: testing without the race detector"
	@[ -n "$(EXAMPLES)" ] || echo "the examples need Go 1.26: testing only examples/quickstart"
	@set -e; for module in $(MODULES); do (cd $$module && go test $(RACE) ./...); done

lint:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt'ed:" $$unformatted; exit 1; }
	@set -e; for module in $(MODULES); do (cd $$module && go vet ./... && go run $(STATICCHECK) ./...); done
	@[ -z "$(EXAMPLES)" ] || (cd examples/sqlc && go run $(SQLC) diff) # the generated code is up to date

# The hot row benchmarks take five seconds each.
bench: setup
	DSQL_BENCH_FAILOVER=1 go test -count=1 -v -run '^TestTransfersSurvive' -timeout 10m ./occ | grep transfers,
	go test -run '^$$' -bench HotRow -benchtime 1x -timeout 30m ./occ
	go test -run '^$$' -bench . -skip HotRow ./...

# Compares the local cluster with the recorded answers of DSQL.
conformance: setup
	@out=$$(go test -count=1 -v -run '^TestConformance$$' ./dsqltest 2>&1); status=$$?; \
	echo "$$out" | grep -E 'conformance|difference|conformance_test|FAIL' | sort -u; exit $$status

# Installs PostgreSQL's server from the system's packages if there is none.
setup:
	@sh scripts/setup
