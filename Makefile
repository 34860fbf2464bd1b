# Every target sets itself up: it needs a Python of 3.11 or later, pip and make, nothing else.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8098
# In the clone: two clones, or two users of a machine, have nothing in common.
DATA_DIR ?= .dynamo-run
# Only if said: what a run before agreed on is kept (three nodes, from 7400 on, the first time).
RPC_PORT ?=
NODES ?=
# Of the simulator: one seed or a plan's file; without them a search for so many seconds.
SEED ?=
PLAN ?=
SECONDS ?= 60
# More for a measurement: FLAGS="--nodes 3 --rounds 10".
FLAGS ?=

.PHONY: help run test sim sim-shrink sim-planted bench bench-floor bench-handoff bench-trees bench-exchange check-report check format clean

help:
	@echo "make run     a cluster of three nodes on loopback, with REST on $(PORT) and up; others with"
	@echo "             NODES=5 PORT=9098 RPC_PORT=9400 DATA_DIR=/where/they/keep/what/they/have"
	@echo "make test    the whole test suite"
	@echo "make sim     new seeds in the simulator for a minute, on all cores; others with SECONDS=600;"
	@echo "             SEED=7 runs that one, PLAN=shrunk-7.json the plan in a file"
	@echo "make sim-shrink SEED=7    the least of a seed (or PLAN=) that still fails"
	@echo "make sim-planted          does the simulator find the bugs that are planted to try it?"
	@echo "make bench   how stale is it? a few minutes of everything: controls, a grid against its prediction,"
	@echo "             faults, a report to open, in .dynamo-bench; elsewhere with FLAGS='--out DIR'"
	@echo "make bench-floor          requests a second of the store and of the floor, the least that any"
	@echo "             quorum store does, interleaved; some minutes, or FLAGS=--quick"
	@echo "make bench-handoff        hints a second to a node that returns, and what its clients feel;"
	@echo "             a million of them, or FLAGS='--hints 200000'"
	@echo "make bench-trees          what the hash trees cost: memory, a rebuild, each write; with a"
	@echo "             million records, or FLAGS='--keys 100000'"
	@echo "make bench-exchange       what it takes to find d differences among a million keys, and to find"
	@echo "             none; some minutes, or FLAGS='--keys 100000 --steady-seconds 20'"
	@echo "make check-report         a report in a headless Chromium, without a network: is it whole? Of a"
	@echo "             run in the simulator, or FLAGS=DIR; pictures with FLAGS='--screenshot DIR'"
	@echo "make check   ruff, mypy --strict, the rules of the house, the count of the hot path"
	@echo "make format  let ruff lay the code out"
	@echo "make clean   take away .venv and what builds and checks leave; the data of make run stays"
	@echo "PYTHON=/path/to/python3 chooses the interpreter that .venv is made with."

# Debian's python3 has no ensurepip without python3-venv: then its own pip installs into .venv.
$(STAMP): pyproject.toml
	@set -e; for python in "$$PYTHON" python3 python3.13 python3.12 python3.11; do \
	  [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && found=$$python && break; done; \
	[ -n "$$found" ] || { echo "make: no Python of 3.11 or later found; set PYTHON=/path/to/python3" >&2; exit 1; }; \
	echo "setting up $(VENV) with $$found"; \
	if "$$found" -m venv $(VENV) >/dev/null 2>&1; then set -- $(BIN)/python -m pip; \
	else "$$found" -m venv --clear --without-pip $(VENV); \
	  set -- "$$found" -m pip --python $(BIN)/python; fi; \
	"$$@" install --quiet --disable-pip-version-check -e '.[dev]'; \
	touch $@

run: $(STAMP)
	@$(BIN)/dynamo cluster --http-port $(PORT) --data-dir '$(DATA_DIR)' \
	  $(if $(NODES),--nodes $(NODES)) $(if $(RPC_PORT),--rpc-port $(RPC_PORT))

test: $(STAMP)
	@$(BIN)/python -m pytest -n auto --dist worksteal -q

ONE_RUN = $(if $(SEED),--seed '$(SEED)') $(if $(PLAN),--plan '$(PLAN)')

sim: $(STAMP)
	@$(BIN)/python -m dynamo.sim $(if $(SEED)$(PLAN),run $(ONE_RUN),search --seconds '$(SECONDS)')

sim-shrink: $(STAMP)
	@$(BIN)/python -m dynamo.sim shrink $(ONE_RUN)

sim-planted: $(STAMP)
	@$(BIN)/python -m dynamo.sim planted

bench: $(STAMP)
	@$(BIN)/python -m bench short $(FLAGS)

bench-floor: $(STAMP)
	@$(BIN)/python -m bench floor $(FLAGS)

bench-handoff: $(STAMP)
	@$(BIN)/python -m bench handoff $(FLAGS)

bench-trees: $(STAMP)
	@$(BIN)/python -m bench trees $(FLAGS)
bench-exchange: $(STAMP)
	@$(BIN)/python -m bench exchange $(FLAGS)

check-report: $(STAMP)
	@$(BIN)/python -m bench check-report $(FLAGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/python -m bench.hotpath --compare

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
