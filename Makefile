SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo test lint soak bench assets lock clean

# Nothing here needs the network once set-up is done, and DDS stays on this machine.
ENVIRONMENT = . ./env.sh && export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 \
  ROS_AUTOMATIC_DISCOVERY_RANGE="$${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"

# Where set-up can install a browser, its test may not be skipped.
REQUIRE_BROWSER = if grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then \
  export IVLM_REQUIRE_BROWSER="$${IVLM_REQUIRE_BROWSER:-1}"; fi

LINT = { echo "ruff:" && ruff check . && echo "mypy:" && mypy; }

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## everything the other commands need (idempotent; they call it themselves)
	@scripts/setup.sh

setup-tests:
	@scripts/setup.sh --tests

demo: setup  ## replay a recording through the node; pictures, meshes and figures in out/demo/
	@$(ENVIRONMENT) && python -m ivlm_ros.demo --out out/demo

test: setup-tests  ## check style and types, run all tests
	@$(ENVIRONMENT); status=0; $(LINT) || status=$$?; $(REQUIRE_BROWSER); \
	  IVLM_REQUIRE_ROS=1 python -m pytest -m "not soak" $(PYTEST_ARGS) || status=$$?; \
	  if [ $$status = 0 ]; then echo "make test: passed"; else echo "make test: FAILED (see above)"; fi; exit $$status

lint: setup  ## style (ruff) and types (mypy) only
	@$(ENVIRONMENT) && $(LINT)

soak: setup  ## the long-running tests that `make test` leaves out
	@$(ENVIRONMENT); IVLM_REQUIRE_ROS=1 python -m pytest -m soak --timeout 0 $(PYTEST_ARGS) || \
	  { status=$$?; [ $$status = 5 ] && echo "no soak tests exist yet" || exit $$status; }

bench: setup  ## all benchmarks; tables on the terminal, JSON in out/bench/
	@$(ENVIRONMENT) && mkdir -p out/bench && for script in benchmarks/bench_*.py; do \
	  echo "== $$script"; python "$$script" --json "out/bench/$$(basename "$$script" .py).json"; done

assets: setup  ## rebuild the shipped body assets and the sample of SynthHOI (slow the first time: about 2 minutes)
	@$(ENVIRONMENT) && python -m ivlm_core.bodies.build_anny && python -m ivlm_core.bodies.build_phenotypes && \
	  python -m ivlm_core.datasets.synthetic.build_sample

lock: setup  ## resolve requirements.in into lock.txt for Python 3.10 to 3.12 (needs uv and the network)
	@command -v uv >/dev/null || { echo "make lock needs uv: python -m pip install uv" >&2; exit 1; }
	@uv pip compile --universal --python-version 3.10 --no-header --no-annotate \
	  requirements/requirements.in -o requirements/lock.txt

clean:  ## remove what was built (build, install, log, out); .venv stays
	rm -rf build install log out
