# make demo: a pool on a local cluster. make test: everything. Neither needs AWS.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
SQLC        := github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1

# OpenTelemetry and the examples need Go 1.26, everything else Go 1.25.
GO_MINOR := $(shell go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
EXAMPLES := $(if $(filter 25,$(GO_MINOR)),,examples)
OTEL     := $(if $(filter 25,$(GO_MINOR)),,otel)
MODULES  := . dsqltest/embedded examples/quickstart $(EXAMPLES) $(OTEL) compare bench

# The race detector needs a C compiler; without one Go reports CGO_ENABLED=0.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

# Tests must not depend on the variables that pgx, libpq and the AWS SDK read.
CLEAN := env $(shell env | sed -n 's/^\(PG[A-Z]*\|AWS_[A-Z0-9_]*\)=.*/-u \1/p')

.PHONY: demo test lint bench soak conformance live fuzz cover vulncheck setup

demo: setup
	cd examples/quickstart && go run .

test: setup lint
	@[ -n "$(RACE)" ] || echo "no C compiler found: testing without the race detector"
	@[ -n "$(EXAMPLES)" ] || echo "otel and the examples need Go 1.26: of those only examples/quickstart is tested"
	@set -e; for module in $(MODULES); do (cd $$module && $(CLEAN) go test $(RACE) -p 3 ./...); done

lint:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt'ed:" $$unformatted; exit 1; }
	@set -e; for module in $(MODULES); do (cd $$module && go vet ./... && go run $(STATICCHECK) ./...); done
	@[ -z "$(EXAMPLES)" ] || (cd examples/sqlc && go run $(SQLC) diff) # the generated code is up to date

# Reproduces docs/performance.md, in about 45 minutes on a quiet machine. scripts/bench lists the variables for
# shorter runs, such as BENCH_COUNT=1 BENCH_HOTROW=HotRow/script.
bench: setup
	sh scripts/bench

# Compares the local cluster with the recorded answers of DSQL. make conformance DSQL_ENDPOINT=… runs
# the recorded statements against a real cluster, and compares its answers with both: docs/conformance.md.
# CONFIRM=yes begins without asking; CLEANUP=1 only drops the schemas of all runs.
conformance: setup
ifneq ($(DSQL_ENDPOINT),)
	@DSQL_ENDPOINT="$(DSQL_ENDPOINT)" go run ./internal/conformance/run $(if $(filter yes,$(CONFIRM)),-yes) $(if $(CLEANUP),-clean)
else
	@out=$$(DSQL_CONFORMANCE=all go test -count=1 -v -run '^TestConformance$$' ./dsqltest 2>&1); status=$$?; \
	echo "$$out" | grep -E 'conformance|difference|conformance_test|FAIL' | sort -u; exit $$status
endif

# Injects faults at every protocol point for SOAK and checks the ledger of what was applied. It prints
# the seed; SEED repeats it.
SOAK := 5m
SEED :=
soak:
	OCC_SOAK=$(SOAK) OCC_SOAK_SEED=$(SEED) go test -count=1 -v -timeout 0 -run '^TestSoak$$' ./occ

# make live DSQL_ENDPOINT=…: tests the library against a real cluster, as admin, with the AWS
# credentials of the environment. With DSQL_PRINCIPAL, their ARN, it grants a role and revokes it.
live:
	@[ -n "$(DSQL_ENDPOINT)" ] || { echo "set DSQL_ENDPOINT to the cluster: make live DSQL_ENDPOINT=<cluster ID>.dsql.<region>.on.aws"; exit 1; }
	DSQL_LIVE=1 DSQL_ENDPOINT="$(DSQL_ENDPOINT)" go test -count=1 -v -timeout 20m ./internal/live

# Each fuzz target runs for FUZZTIME.
FUZZTIME := 1m
FUZZ     := .:FuzzParseURL .:FuzzURLWithAPasswordIsRefusedAndNotShown internal/endpoint:FuzzParse internal/endpoint:FuzzParseDialAddress \
	internal/params:FuzzParseOptions internal/proxy:FuzzParseStartup internal/token:FuzzParse internal/dialect:FuzzParse
fuzz:
	@set -e; for f in $(FUZZ); do echo $$f; go test -run '^$$' -fuzz "^$${f#*:}\$$" -fuzztime $(FUZZTIME) ./$${f%:*}; done

cover: setup
	go test -coverprofile=cover.out -coverpkg=.,./occ,./dsqltest,./internal/... ./...
	go tool cover -func=cover.out | tail -1

# embedded-postgres connects with lib/pq, which has advisories without a fix (GO-2026-6166 and others).
# dsqltest/embedded only lets it unpack an archive.
vulncheck:
	@set -e; for module in $(filter-out dsqltest/embedded,$(MODULES)); do (cd $$module && go run $(GOVULNCHECK) ./...); done

# Installs or downloads PostgreSQL's server if there is none.
setup:
	@sh scripts/setup
