# `make demo` and `make test` set everything up by themselves: they need a Python, pip and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# One thread per process: two busy torch threads on two cores can be 30 times slower than one.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1

RUN := .venv/bin

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready ## make the environment in .venv

.venv/ready: pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh
	@touch $@

demo: setup ## record, train several policies, roll out, compare: outputs/demo/report.html
	@$(RUN)/anyorder demo $(ARGS)

test: setup ## all tests but the slow ones
	@$(RUN)/python -m pytest -q -n 2 --dist worksteal $(ARGS)

test-slow: setup ## the tests that take minutes
	@$(RUN)/python -m pytest -q -m slow $(ARGS)

coverage: setup ## which lines of the core no test reaches; fails below 95 %
	@$(RUN)/python -m pytest -q -n 2 --dist worksteal --cov --cov-fail-under=95 tests/factorization tests/tokenizers \
		tests/networks src/anyorder/factorization src/anyorder/tokenizers src/anyorder/networks src/anyorder/testing $(ARGS)

mutate: setup ## break the core in thousands of ways and list those that no test sees (hours)
	@$(RUN)/python -m mutmut run --max-children 2; $(RUN)/python -m mutmut results

lint: setup ## ruff and mypy
	@$(RUN)/ruff check . && $(RUN)/ruff format --check . && $(RUN)/mypy

bench: setup ## measure speed and memory; prints Markdown
	@for script in benchmarks/bench_*.py; do $(RUN)/python $$script || exit 1; done

gpu-check: setup ## every family trains, resumes, samples and rolls out on the GPU: a table; without one it says so
	@$(RUN)/python benchmarks/gpu_check.py $(ARGS)

torture: setup ## kills, two at once, full disks, damaged files, codes: a table of what came of thousands (an hour)
	@$(RUN)/python benchmarks/torture $(ARGS)

scaling-laws: setup ## tables and figures of docs/scaling-laws.md and its appendix from their runs (minutes)
	@$(RUN)/python benchmarks/scaling_laws.py

wheel: setup ## build the wheel into dist/
	@bash scripts/setup.sh --uv build --wheel --quiet

.PHONY: help setup demo test test-slow coverage mutate lint bench gpu-check torture scaling-laws wheel
