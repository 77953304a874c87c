# make demo: a pool on a local cluster. make test: everything. Neither needs AWS.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
SQLC        := github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1
MODULES     := . examples compare

# The race detector needs a C compiler; without one Go reports CGO_ENABLED=0.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

.PHONY: demo test lint bench conformance setup

demo: setup
	cd examples && go run ./quickstart

test: setup lint
	@[ -n "$(RACE)" ] || echo "no C compiler found: testing without the race detector"
	@set -e; for module in $(MODULES); do (cd $$module && go test $(RACE) ./...); done

lint:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt'ed:" $$unformatted; exit 1; }
	@set -e; for module in $(MODULES); do (cd $$module && go vet ./... && go run $(STATICCHECK) ./...); done
	@cd examples/sqlc && go run $(SQLC) diff # what is generated is up to date

# The hot row's runs take five seconds each; the others are the usual kind.
bench: setup
	go test -run '^$$' -bench HotRow -benchtime 1x -timeout 30m ./occ
	go test -run '^$$' -bench . -skip HotRow ./...

# How many of DSQL's recorded answers the local cluster gives.
conformance: setup
	@out=$$(go test -count=1 -v -run '^TestConformance$$' ./dsqltest 2>&1); status=$$?; \
	echo "$$out" | grep -E 'conformance|difference|conformance_test|FAIL' | sort -u; exit $$status

# Installs PostgreSQL's server from the system's packages, if none is found.
setup:
	@sh scripts/setup
