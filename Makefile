# MATS: `make` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Of two cores: tests wait more than they compute.
WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help env dev run test test-postgres check bench prove docs chromium lock clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 16

$(BIN)/uv: requirements-bootstrap.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "MATS needs Python 3.11; found $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python cannot make a virtual environment. On Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock && touch $(BIN)/uv || echo "uv is not available here; using pip, which takes longer."

# uv is several times faster; pip reads the same hashes when uv cannot be had.
define install
@echo "Installing $(1) (once) …"
@if [ -x $(BIN)/uv ]; then $(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r $(1); else $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(1); fi
@touch $(2)
endef

$(VENV)/.run-ready: requirements.lock $(BIN)/uv
	$(call install,requirements.lock,$@)

$(VENV)/.dev-ready: requirements-dev.lock $(BIN)/uv
	$(call install,requirements-dev.lock,$@)

env: $(VENV)/.run-ready  ## Make the environment that runs MATS
dev: $(VENV)/.dev-ready  ## Make the environment that also tests it

run: env  ## Start gateway, engine and web; print the address
	@exec $(BIN)/python manage.py up

chromium:  ## Install a browser for the browser tests, where the system allows
	@sh tests/browser/install_chromium.sh

# What tests write is thrown away: in memory, where there is enough of it, no commit waits for a disk.
IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "PYTEST_DEBUG_TEMPROOT=/dev/shm"}')

test: dev chromium  ## Run every test, the browser tests included
	@$(IN_MEMORY) $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not performance and not proof"

POSTGRES_TESTS ?= tests/unit/portfolio tests/unit/engine tests/unit/orders tests/unit/strategies tests/unit/site tests/properties tests/integration tests/e2e/engine

test-postgres: dev  ## Run the tests of the ledger on a throw-away PostgreSQL server
	@$(BIN)/python -m tests.support.postgres $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not performance and not proof" $(POSTGRES_TESTS)

check: dev  ## Format, lint, types, import direction, migrations, deployment checks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy mats_site trading portfolio strategies tests manage.py
	@MATS_HOME=build/check $(BIN)/python manage.py makemigrations --check --dry-run
	@MATS_HOME=build/check MATS_HTTPS=true $(BIN)/python manage.py check --deploy --fail-level WARNING

bench: dev  ## Print our figures beside their floors, measured in the same run
	@$(BIN)/python -m tests.performance.bench
	@$(BIN)/python -m tests.performance.bench_books
	@$(BIN)/python -m tests.performance.bench_orders
	@$(BIN)/python -m tests.performance.bench_strategies
	@$(BIN)/python -m tests.performance.bench_backtest

prove: dev  ## Run the long proofs, for hours; seeds are printed (docs/proof.md)
	@echo "$${MATS_PROOF_KILLS:-10000} kills, $${MATS_PROOF_STEPS:-1000000} steps, seeds from $${MATS_PROOF_SEED:-1}"
	@$(BIN)/python -m pytest -m "proof" -v -s
	@MATS_EXPLORE=1 $(BIN)/python -m pytest -q tests/properties

docs: dev  ## Check that every documented command and setting exists
	@$(BIN)/python -m pytest -q tests/architecture

lock:  ## Solve the dependencies again; what runs is held to the versions that are tested
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra dev --extra postgres pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -c requirements-dev.lock pyproject.toml -o requirements.lock
	@echo "uv" | $(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header - -o requirements-bootstrap.lock

clean:  ## Remove the environment and what tests left (not var/, which holds your data)
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
