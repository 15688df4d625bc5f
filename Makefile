# `make demo` to look, `make test` to try, `make check` before a change is handed in. CONTRIBUTING.md says the rest.

PYTHON ?= python3
VENV ?= .venv
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
TORTURE_ARGS ?=
LOAD_ARGS ?=
LOCK_ARGS ?=
UV_VERSION = 0.13.8

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
MINISTACK_VENV = .venv-ministack
LOCK_VENV = .venv-lock

NEW_ENOUGH = import sys; sys.exit("Lockboard needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)

# A half-made environment (no ensurepip, no space) is removed, so that the next run starts afresh.
new_venv = $(PYTHON) -c '$(NEW_ENOUGH)' && { $(PYTHON) -m venv $(1) || { rm -rf $(1); exit 1; }; }

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check format lint types imports smoke container-check ministack bench torture load sbom audit-deps lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo ## the dashboard with a made-up estate on loopback; Ctrl-C ends it
	@exec $(BIN)/lockboard demo $(DEMO_ARGS)

test: $(VENV)/.dev ## every test this machine can run (PYTEST_ARGS="-k digest -x")
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint types imports test smoke ## what CI runs

format: $(VENV)/.dev ## put every file into the house format
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

lint: $(VENV)/.dev ## format and lint rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy --strict

imports: $(VENV)/.dev ## which room may import which
	$(BIN)/lint-imports

smoke: $(VENV)/.dev ## build wheel and sdist, install the wheel elsewhere, serve it from an empty folder
	$(BIN)/python -m tools.wheel_smoke

container-check: ## the steps of the Dockerfile in a clean virtual environment, under another user (as root)
	tools/container_steps.sh check

ministack: $(MINISTACK_VENV)/.installed ## the second emulator, apart because it pins botocore

bench: $(VENV)/.dev ## the table of ratios
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

torture: $(VENV)/.dev ## kill every action at each of ten points, 25 times on each database (TORTURE_ARGS="--turns 2")
	$(BIN)/python -m torture $(TORTURE_ARGS)

load: $(VENV)/.dev ## 50 browsers for two minutes, then 200 (LOAD_ARGS="--seconds 20")
	$(BIN)/python -m load $(LOAD_ARGS)

sbom: $(VENV)/.dev ## what the container holds, as dist/lockboard.cdx.json (CycloneDX)
	$(BIN)/python -m tools.sbom

audit-deps: $(VENV)/.dev ## known vulnerabilities of what the container holds; fails where nobody can be asked
	$(BIN)/python -m tools.audit_deps

lock: $(LOCK_VENV)/.installed ## requirements/*.txt from pyproject.toml (LOCK_ARGS=--upgrade for newer versions)
	@set -eu; export UV_CUSTOM_COMPILE_COMMAND="make lock"; \
	compile() { $(LOCK_VENV)/bin/uv --no-config pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links $(LOCK_ARGS) "$$@"; }; \
	compile pyproject.toml --all-extras --group dev -o requirements/dev.txt; \
	compile pyproject.toml -c requirements/dev.txt -o requirements/base.txt; \
	compile pyproject.toml -c requirements/dev.txt --extra postgres -o requirements/container.txt; \
	compile pyproject.toml -c requirements/dev.txt --extra demo --group build -o requirements/demo.txt; \
	compile --group pyproject.toml:build -c requirements/dev.txt -o requirements/build.txt; \
	echo 'ministack==1.5.33' | compile - -o requirements/ministack.txt

clean: ## environments, caches, builds
	rm -rf $(VENV) $(MINISTACK_VENV) $(LOCK_VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(call new_venv,$(VENV))

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/demo.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Everything in demo.txt is in dev.txt at the same version.
$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $(VENV)/.demo $@

$(MINISTACK_VENV)/.installed: requirements/ministack.txt
	@test -x $(MINISTACK_VENV)/bin/python || { $(call new_venv,$(MINISTACK_VENV)); }
	$(MINISTACK_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

$(LOCK_VENV)/.installed: Makefile
	@test -x $(LOCK_VENV)/bin/python || { $(call new_venv,$(LOCK_VENV)); }
	$(LOCK_VENV)/bin/python -m pip --disable-pip-version-check install --quiet uv==$(UV_VERSION)
	@touch $@
