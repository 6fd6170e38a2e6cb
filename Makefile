# Everything a newcomer or CI needs; `make demo` and `make test` set up what is missing.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PLAYGROUND ?= playground

# Compiled modules make every command start several times faster.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup  ## run the whole product on a machine made of files, in seconds
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo "$(PLAYGROUND)"

.PHONY: test
test: setup check  ## run every check and every test that this machine can run
	@scripts/test

.PHONY: check
check: setup  ## formatter, linter, strict types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.:repo-tools $(BIN)/lint-imports

.PHONY: format
format: setup  ## format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: setup
setup: $(VENV)/ready  ## install Debian packages (as root) and the virtual environment

$(VENV)/ready: requirements.lock requirements-build.lock pyproject.toml scripts/setup \
		hatch_build.py updog/_block_hash.c
	@scripts/setup "$(VENV)"
	@touch $@

BOOT := build/boot
# One machine at a time: an emulated processor takes a whole real one.
BOOT_TEST := BOOT_TEST=1 $(BIN)/pytest -p no:cacheprovider --durations=0 --durations-min=1

.PHONY: boot-test
boot-test: setup $(BOOT)/ready  ## boot updates in a virtual machine: the main cases, in minutes
	@$(BOOT_TEST) tests/boot/test_quick.py

.PHONY: boot-test-full
boot-test-full: setup $(BOOT)/ready  ## the same with every case
	@$(BOOT_TEST) tests/boot

$(BOOT)/ready: scripts/setup-boot
	@scripts/setup-boot "$(BOOT)"
	@touch $@

.PHONY: lock
lock: setup  ## renew the lock files from pyproject.toml
	@scripts/lock "$(VENV)"

.PHONY: readme
readme: setup  ## put what the demo prints now into README.md
	$(BIN)/python -m tests.helpers.readme

.PHONY: explore
explore: setup  ## explore every crash state, not a sample
	EXPLORE=all scripts/test tests/crash tests/faults \
		tests/integration/test_publish_consistency.py tests/unit/repo_tools/test_rescheduling.py

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: setup  ## hostile partition tables for FUZZ_SECONDS
	$(BIN)/python -m tests.crash.fuzz $(FUZZ_SECONDS)

.PHONY: bench
bench: setup  ## measure what docs/performance.md states, as root, in a quarter of an hour
	@scripts/setup-bench "$(VENV)" build/machine
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.check_update
	$(BIN)/python -m benchmarks.simulate
	$(BIN)/python -m benchmarks.image
	$(BIN)/python -m benchmarks.publish
	$(BIN)/python -m benchmarks.install --picture docs/install.svg

DEB_DIRECTORY ?= build
.PHONY: deb
deb: setup  ## make a Debian package of updog, signpost and their units, on Debian 12
	scripts/deb "$(VENV)" "$(DEB_DIRECTORY)"

.PHONY: deb-test
deb-test: setup  ## install that package into a plain Debian 12 and purge it, as root, in minutes
	scripts/deb-test "$$(scripts/deb "$(VENV)" "$(DEB_DIRECTORY)")"

.PHONY: clean
clean:  ## remove the virtual environment, the playground and all caches
	rm -rf "$(VENV)" "$(PLAYGROUND)" build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f updog/*.so
