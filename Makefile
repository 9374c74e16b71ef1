# The two commands of the README are `make demo` and `make test`; each does all its own set-up.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BENCH = $(VENV)-bench

.DEFAULT_GOAL := help
.PHONY: help demo demo-stream check test integration services quota bench notebook fuzz audit clean

help: ## what there is to do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/demo.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(BENCH)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/dev.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/demo.installed

demo: $(VENV)/demo.installed ## moderates a sample of real images and checks every outcome
	$(BIN)/python pipelines/demo.py

demo-stream: $(VENV)/dev.installed ## the same from Kafka, on Flink (Java 17, Maven), into windows
	$(BIN)/python pipelines/demo_stream.py

check: $(VENV)/dev.installed ## style, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: $(VENV)/dev.installed ## the test suite that needs no services
	$(BIN)/python -m pytest -m 'not integration'

integration: $(VENV)/dev.installed ## the tests that need the vendors' SDKs, or minutes
	$(BIN)/python -m pytest -m 'integration and not services and not measured' $(PYTEST_FLAGS)

services: $(VENV)/dev.installed ## the tests on a real Kafka and a real Flink (Java 17, Maven)
	cd tests/integration && $(abspath $(BIN)/python) -m services download >/dev/null || true # the tests say what is missing
	tests/integration/loopback.sh $(BIN)/python -m pytest -m services $(PYTEST_FLAGS)

quota: $(VENV)/dev.installed ## the use of quotas, on a machine with nothing else to do
	$(BIN)/python -m pytest -m measured -rP

bench: $(BENCH)/installed ## the benchmarks, as ratios against a baseline of the same run
	$(BENCH)/bin/python benchmarks/backfill.py
	$(BENCH)/bin/python benchmarks/memory.py
	$(BENCH)/bin/python benchmarks/fetch.py
	$(BENCH)/bin/python benchmarks/read.py
	$(BENCH)/bin/python benchmarks/overhead.py
	$(BENCH)/bin/python benchmarks/isolation.py
	$(BENCH)/bin/python benchmarks/poison.py
	$(BENCH)/bin/python benchmarks/latency.py

notebook: $(VENV)/dev.installed ## runs the notebook over the demo's tables
	$(BIN)/python -m pytest tests/test_notebook.py

fuzz: export FUZZ_SECONDS ?= 600
fuzz: $(VENV)/dev.installed ## decoders and answer parsers, for minutes
	$(BIN)/python -m pytest tests/test_image_fuzz.py --timeout 0
	$(BIN)/python -m pytest tests/vendors/test_fuzzed_answers.py --timeout 0

audit: $(VENV)/dev.installed ## known vulnerabilities of what is installed
	$(BIN)/pip-audit --skip-editable

clean: ## removes what the targets made
	rm -rf $(VENV) $(BENCH) out .cache build dist
