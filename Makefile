# Two commands do all the set-up: `make localnet` runs a cluster, `make test` runs the tests.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
# A distribution's own interpreter first: it is built with profile-guided optimization, which one
# that was compiled on the machine often is not, and everything here is then a sixth faster. Some
# distributions pack `ensurepip`, which makes environments, apart from it.
PYTHON ?= $(shell for p in /usr/bin/python3.12 /usr/bin/python3.11 python3.12 python3.11 python3 python; do \
	$$p -c 'import ensurepip; $(SUPPORTED)' >/dev/null 2>&1 && { echo $$p; break; }; done)

.PHONY: help setup compile localnet test campaign check docs format bench lock clean

help: ## Show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP) ## Create .venv with the `rota` command in it

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Rota needs Python 3.11 or 3.12 (found: $$(python3 --version 2>&1)); install one or run make PYTHON=/path/to/python3.12" >&2; exit 3; }
	@command -v "$(PYTHON)" >/dev/null || { echo "there is no Python at $(PYTHON); Rota needs Python 3.11 or 3.12: run make PYTHON=/path/to/python3.12" >&2; exit 3; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "Rota needs Python 3.11 or 3.12, and $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; exit 3; }
	@test ! -L $(VENV) || { echo "$(VENV) is a link, and installing would empty what it points to: remove the link first" >&2; exit 3; }
	@echo "installing with $$(command -v "$(PYTHON)") (about half a minute)"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

compile: setup ## Compile the pure packages with mypyc, if there is a C compiler
	@$(BIN)/python scripts/compile.py

# What cannot be compiled here runs from its sources, as everything did before.
TRY_TO_COMPILE = $(BIN)/python scripts/compile.py || echo "not compiled: see above; Rota runs from its sources" >&2

localnet: setup ## Run four sequencer nodes with demo traders until Ctrl-C
	@$(TRY_TO_COMPILE)
	$(BIN)/rota localnet up

test: setup ## Run the tests
	@$(BIN)/python scripts/run_tests.py

campaign: setup compile ## Simulate 11,200 random schedules, all crash points of a run, 2,000 twins, 300 engine streams
	$(BIN)/rota sim run --seeds 1..10000 --views 30
	$(BIN)/rota sim run --seeds 20001..20200 --views 100
	$(BIN)/rota sim run --seeds 30001..31000 --views 4
	$(BIN)/rota sim run --seeds 1 --views 30 --crash-points
	$(BIN)/rota sim twins run --count 2000 --run-views 30
	$(BIN)/rota sim engine --seeds 1..300 --blocks 100

check: setup ## Format, lint, strict types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup ## Write the reference pages that follow from the code
	$(BIN)/python -m node.cli.reference docs

format: setup ## Rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measure ordering, latency, orders and the engine on this machine
	@$(TRY_TO_COMPILE)
	$(BIN)/rota bench all

lock: setup ## Re-resolve requirements.lock from pyproject.toml
	$(PYTHON) -m venv --clear build/lock && build/lock/bin/pip install --quiet uv==0.13.9
	build/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --group dev pyproject.toml -o requirements.lock

clean: ## Remove the environment and all caches
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .localnet
