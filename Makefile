# Everything a user or CI runs. Needs python3 (3.11+), make and the usual package registries.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A hash seed of its own makes simulated runs the same everywhere.
PYTEST := PYTHONHASHSEED=0 $(BIN)/python -m pytest -p no:cacheprovider

.PHONY: install up check unit test test-all bench bench-edge bench-brain schemas etcd clean

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	@touch $@

up: $(STAMP)
	@exec $(BIN)/leeward up

check: unit
	$(PYTEST) -q tests/simulation --seeds 20

test: unit
	$(PYTEST) -q tests/simulation --seeds 200
	$(PYTEST) -q tests/integration -m 'not slow'
	$(PYTEST) -q tests/drill -m 'not slow'

test-all: unit
	HYPOTHESIS_PROFILE=explore $(PYTEST) -q tests/unit
	$(PYTEST) -q tests/simulation --seeds 2000
	$(PYTEST) -q tests/integration
	$(PYTEST) -q tests/drill

unit: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@# Two halves of about the same length, side by side.
	@$(PYTEST) -q tests/unit/control_plane & half=$$!; \
	$(PYTEST) -q tests/architecture tests/unit --ignore=tests/unit/control_plane; rest=$$?; \
	wait $$half && exit $$rest

bench: bench-edge bench-brain

bench-edge: $(STAMP)
	$(BIN)/python -m bench.edge

bench-brain: $(STAMP)
	$(BIN)/python -m bench.brain

schemas: $(STAMP)
	$(BIN)/python -m ops.schemas docs/schemas

# A newer etcd than the wheel's, built with Go where it is at hand; its tests say when it is not there.
etcd: $(STAMP)
	$(BIN)/python -m tests.support.build_etcd

clean:
	rm -rf $(VENV) .cache .leeward .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis bench/out *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
