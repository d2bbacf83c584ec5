# Everything a user or CI runs. Needs python3 (3.11+), make and the usual package registries.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A hash seed of its own makes simulated runs the same everywhere.
PYTEST := PYTHONHASHSEED=0 $(BIN)/python -m pytest -p no:cacheprovider

DIALECTS := $(wildcard tests/unit/edge_router/test_dialects_*.py)

.PHONY: install up check unit test test-all bench bench-edge bench-brain schemas ui etcd clean

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
	@# Mostly waiting, so side by side: what needs Apache Kafka and the browser; the edge and all else; real processes.
	@{ $(PYTEST) -q $(wildcard tests/integration/test_[a-d]*.py) -m 'not slow' && \
	$(PYTEST) -q tests/browser -m 'not slow'; } & first=$$!; \
	$(PYTEST) -q $(wildcard tests/integration/test_[e-z]*.py) -m 'not slow' & second=$$!; \
	$(PYTEST) -q tests/drill -m 'not slow'; third=$$?; \
	wait $$first; first=$$?; wait $$second && exit $$((first | third))

test-all: unit
	HYPOTHESIS_PROFILE=explore $(PYTEST) -q tests/unit
	$(PYTEST) -q tests/simulation --seeds 2000
	$(PYTEST) -q tests/integration
	$(PYTEST) -q tests/browser
	$(PYTEST) -q tests/drill

unit: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@# Two halves of about the same length, side by side.
	@$(PYTEST) -q tests/architecture tests/unit/control_plane $(DIALECTS) & half=$$!; \
	$(PYTEST) -q $(filter-out $(DIALECTS),$(wildcard tests/unit/edge_router/test_*.py)) \
	$(filter-out tests/unit/control_plane tests/unit/edge_router %__pycache__,$(wildcard tests/unit/*)); rest=$$?; \
	wait $$half && exit $$rest

bench: bench-edge bench-brain

bench-edge: $(STAMP)
	$(BIN)/python -m bench.edge

bench-brain: $(STAMP)
	$(BIN)/python -m bench.brain

schemas: $(STAMP)
	$(BIN)/python -m ops.schemas docs/schemas

# The dashboard from its sources, where npm is at hand; what it builds is committed, so nobody else needs npm.
ui:
	@command -v npm > /dev/null || { echo "npm is not at hand: the page stays as it is in control_plane/api/page/"; exit 1; }
	cd control_plane/ui && npm ci --no-audit --no-fund --loglevel error && npm run --silent check && npm run --silent build

# A newer etcd than the wheel's, built with Go where it is at hand; its tests say when it is not there.
etcd: $(STAMP)
	$(BIN)/python -m tests.support.build_etcd

clean:
	rm -rf $(VENV) control_plane/ui/node_modules .cache .leeward .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis bench/out *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
