# Every target makes what it needs first; nothing but make and Python 3.11+ must be installed.
# Options: ARGS="..." goes to the tool that the target runs, ONCE=1 lets the demo end by itself, PYTHON=... chooses the interpreter.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup redis postgresql node fmt lint types imports test cover floor ci demo bench soak servers docs build clean

VENV := .venv
PY := $(VENV)/bin/python
CODE := $(wildcard src tests examples bench scripts)
ARGS ?=

help: ## List these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# One stamp per set of packages: a second run costs nothing, a changed pyproject.toml installs again.
$(VENV)/.ready-demo: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh demo && touch $@

$(VENV)/.ready-dev: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh demo,otel,prometheus,reload,sqlalchemy dev && touch $@ $(VENV)/.ready-demo

$(VENV)/.ready-bench: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh speed bench && touch $@

$(VENV)/.ready-docs: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh web docs && touch $@

$(VENV)/.ready-servers: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh demo servers && touch $@

setup: $(VENV)/.ready-dev ## Make .venv with everything that development needs

redis: # A redis-server for the tests to start; quick when there is one
	@sh scripts/redis.sh

postgresql: # A PostgreSQL for the tests to start; quick when there is one
	@sh scripts/postgresql.sh

node: # node and npm for the tests with real BullMQ peers; quick when they are there
	@sh scripts/node.sh

fmt: setup ## Format the code and repair what lint can repair
	$(PY) -m ruff check --fix --show-fixes $(CODE)
	$(PY) -m ruff format $(CODE)

lint: setup ## Check format and lint rules, change nothing
	$(PY) -m ruff format --check $(CODE)
	$(PY) -m ruff check $(CODE)

types: setup ## Check types, strictly
	$(PY) -m mypy $(CODE)

imports: setup ## Check the layers written in .importlinter
	$(VENV)/bin/lint-imports

test: setup redis postgresql node ## Run the tests: make test ARGS="-k retry"
	$(PY) -m pytest $(ARGS)

# Three at a time and traced, a test may take twice as long. What fails by the noise of a machine passes the second time; the
# summary names it (R).
cover: setup ## Run the tests and hold branch coverage to .ci/coverage-floor
	@rm -f .coverage .coverage.*
	@$(MAKE) test ARGS="-n 3 --dist loadfile --timeout 20 --reruns 1 -r fEsxXR --cov --cov-report= $(ARGS)"
	$(PY) scripts/coverage_floor.py check

floor: setup ## Raise .ci/coverage-floor to what the last `make cover` reached
	$(PY) scripts/coverage_floor.py raise

ci: lint types imports cover ## Everything that CI checks

demo: $(VENV)/.ready-demo ## Run the demo until Ctrl-C; ONCE=1 ends it after five jobs, REDIS=1 takes an own redis-server
	$(if $(REDIS),@sh scripts/redis.sh)
	$(if $(REDIS),$(PY) scripts/demo_redis.py,$(VENV)/bin/toril demo) $(if $(ONCE),--once) $(ARGS)

bench: $(VENV)/.ready-bench redis node ## Measure against other queues, embedded and on Redis: make bench ARGS=redis
	$(PY) -m bench $(ARGS)

soak: setup redis ## Run the long fault and load tests
	$(PY) -m pytest -m soak --timeout=3600 $(wildcard tests/faults tests/redis tests/properties) $(ARGS)

servers: $(VENV)/.ready-servers setup ## Run the tests of the Redis engine on Redis 6.2 and on Valkey
	$(PY) scripts/servers.py $(ARGS)

docs: $(VENV)/.ready-docs ## Build the documentation into site/
	$(VENV)/bin/zensical build --strict --clean

build: setup ## Build wheel and source archive into dist/
	@rm -rf dist
	$(PY) -m hatchling build -d dist

clean: ## Remove everything that these targets made, except .venv
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* coverage.json
	find src tests examples bench scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
