# make demo | test | lint | fuzz | lowest | clean. The environment is .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint fuzz lowest clean

demo: .venv/cpu
	$(BIN)/s2svos demo --out $(DEMO)

test: .venv/all
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --durations=15

lint: .venv/all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# More damaged inputs for every reader than make test has, new ones each time.
fuzz: .venv/all
	S2SVOS_FUZZ=$(or $(EXAMPLES),20000) $(BIN)/python -m pytest tests/test_fuzz.py

# With the lowest versions that are allowed: the demo, and doctor, which compares the engines.
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet -c constraints/lowest.txt -e ".[cpu]"
	.venv-lowest/bin/s2svos demo --out $(DEMO)-lowest
	.venv-lowest/bin/s2svos doctor

clean:
	rm -rf .venv .venv-lowest $(DEMO) $(DEMO)-lowest build *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "s2svos needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

# What the demo needs: no torch. One stamp an extra, so that make test adds to make demo.
.venv/cpu: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e ".[cpu]"
	@touch $@

.venv/all: pyproject.toml scripts/gpu_stubs.py | $(BIN)/python
	$(BIN)/pip install --quiet -e ".[cpu,train,dev]"
	$(BIN)/pip install --quiet --no-deps "vos-benchmark>=0.1"
	$(BIN)/python scripts/gpu_stubs.py
	@touch $@ .venv/cpu
