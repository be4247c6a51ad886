# make run    the whole job on a sample log        make up / make down    keep the stack running / stop it
# make test   all tests                            make lint              style and import rules
# make peers  RecTools, for `interest benchmark`   make benchmarks        time and memory, into docs/performance.md
# make test-faults   every fault to survive, printed as a table      make test-faults-redis   those on Redis alone

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run up down peers test test-faults test-faults-redis benchmarks lint setup packages clean

run: $(STAMP)
	$(BIN)/interest run

up: $(STAMP)
	$(BIN)/interest up

down: $(STAMP)
	$(BIN)/interest down

# Two processes with a thread each are quicker than one with two.
test: $(STAMP) packages
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

test-faults: $(STAMP) packages
	$(BIN)/pytest -m fault

test-faults-redis: $(STAMP) packages
	$(BIN)/pytest -m fault -k redis

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/lint-imports

benchmarks: $(STAMP)
	$(BIN)/python benchmarks/all.py

# What `interest benchmark` compares with and what asks for other versions than ours.
peers: .venv-peers/installed

.venv-peers/installed: infra/peers.lock
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --no-deps -r infra/peers.lock
	.venv-peers/bin/python -m pip install --quiet $$(grep '^torch==' infra/peers.lock)
	touch $@

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# The tests want a Redis server, a browser and Java (for Spark). Where one is missing and may be installed, it is; else
# its tests skip.
packages:
	@command -v redis-server >/dev/null && command -v chromium >/dev/null && command -v java >/dev/null || { \
	  command -v apt-get >/dev/null && \
	  SUDO=$$(test "$$(id -u)" = 0 || command -v sudo) && export SUDO && \
	  $$SUDO apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends \
	    redis-server chromium default-jre-headless >/dev/null; \
	} || echo "redis-server, chromium or java is missing and cannot be installed here: the tests that need it skip"

clean: down
	rm -rf .venv-peers .pytest_cache .ruff_cache build dist *.egg-info
