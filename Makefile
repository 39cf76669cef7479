# The only list of commands. `make help` prints what stands behind "##".
# Needs Python 3.11 or newer and make; everything else goes into .venv, from the locked requirements/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
# Two workers by default; a file stays on one of them, so that its fixtures are built once.
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile
# More words for pytest: make test ARGS="-k upgrade -x"
ARGS ?=

PROTO_SOURCES := $(wildcard proto/kastunnel/v1/*.proto)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format lint types layers test-kubernetes kubectl-matrix soak bench proto proto-check docs fault-coverage lint-deploy lock clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- using it ---------------------------------------------------------------------------------------------------------

demo: $(VENV)/.demo  ## play a CI job through kas and agentk, then stay up (ONCE=1: only the transcript; KUBE=FILE: a real cluster)
	@$(BIN)/kas demo $(if $(ONCE),--once) $(if $(KUBE),--kube '$(KUBE)')

# --- testing it -------------------------------------------------------------------------------------------------------

test: $(VENV)/.dev  ## run all tests but those that need the real Kubernetes
	$(PYTEST) $(PARALLEL) -m "not kubernetes" $(ARGS)

check: lint types layers proto-check  ## before a commit: format, lint, types, layers, generated code, unit and protocol tests
	$(PYTEST) $(PARALLEL) tests/unit $(wildcard tests/protocol) $(ARGS)

test-kubernetes: $(VENV)/.dev  ## kubectl through kas and agentk against a real Kubernetes (built once, about 10 minutes; Linux, Go, etcd; root for pods)
	$(PYTEST) -m kubernetes $(ARGS)

kubectl-matrix: $(VENV)/.dev  ## every kubectl command with every kubectl of this machine, directly and through kas, against a real Kubernetes; prints a table
	KAS_MATRIX=full $(PYTEST) -m kubernetes -s tests/kubernetes/test_kubectl_matrix.py $(ARGS)

soak: $(VENV)/.dev  ## sessions that are idle for half an hour, against a real Kubernetes
	KAS_SOAK=1800 $(PYTEST) -m kubernetes tests/kubernetes/test_idle.py $(ARGS)

fault-coverage: $(VENV)/.dev  ## which rows of the fault catalogue have a test; fails where a row that is due has none
	$(BIN)/python -m tests.fault_catalogue

bench: $(VENV)/.dev  ## measure against nginx side by side; writes docs/performance.md and build/bench.json (needs nginx and wrk)
	$(BIN)/python -m bench $(ARGS)

# --- parts of check ---------------------------------------------------------------------------------------------------

format: $(VENV)/.dev  ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	@mkdir -p build && $(BIN)/lint-imports >build/layers.txt 2>&1 && tail -n 1 build/layers.txt || { cat build/layers.txt; exit 1; }

lint-deploy: $(VENV)/.dev  ## check the chart, the manifests, the images, compose and the systemd units
	$(PYTEST) tests/deploy $(ARGS)

# --- what is generated ------------------------------------------------------------------------------------------------

# protoc's own output, never edited; $(1) is where it goes.
generate = $(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=$(1) --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy $(PROTO_SOURCES)

proto: $(VENV)/.dev  ## generate kastunnel/v1 from proto/
	$(call generate,.)

proto-check: $(VENV)/.dev
	@rm -rf build/proto && mkdir -p build/proto
	@$(call generate,build/proto)
	@for file in $$(cd build/proto && find . -type f); do \
		cmp -s "build/proto/$$file" "$$file" || { echo "$$file is not what proto/ says: run make proto" >&2; exit 1; }; \
	done

docs: $(VENV)/.dev  ## write docs/configuration.md and examples/kas.yaml from the code
	@mkdir -p build
	$(BIN)/python -m kas.config --markdown >build/configuration.md && mv build/configuration.md docs/configuration.md
	$(BIN)/python -m kas.config --example >build/kas.yaml && mv build/kas.yaml examples/kas.yaml

LOCK := build/uv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-annotate \
	--python-version 3.11 --universal

lock: build/uv/bin/uv  ## resolve the dependencies anew into requirements/
	$(LOCK) --upgrade pyproject.toml --extra dev --output-file requirements/dev.txt
	@# The others get the same versions as the tests had.
	for extra in demo kas agentk; do \
		$(LOCK) --upgrade pyproject.toml --extra $$extra --constraint requirements/dev.txt --output-file requirements/$$extra.txt || exit 1; \
	done
	echo 'setuptools>=77' | $(LOCK) --upgrade - --constraint requirements/dev.txt --output-file requirements/build.txt

build/uv/bin/uv:
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip --disable-pip-version-check --quiet install uv

clean:  ## remove what the other targets made, the environment included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment --------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is not Python 3.11 or newer. Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a virtual environment: its venv and ensurepip modules are missing." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv. Or name another Python: make $(MAKECMDGOALS) PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# dev.txt holds all of demo.txt, so either stamp tells of a complete installation of its kind.
$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (the first time takes about a minute) ..."
	@$(PIP) install --require-hashes -r requirements/demo.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (the first time takes about a minute) ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo
