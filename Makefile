# Every target can be repeated; it keeps what is installed.
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$python && break; done)
BIN = .venv/bin
# Many tests only wait, so there are three processes on two cores.
PARALLEL = -n 3
# Tests start many processes; without the cache each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-fast coverage lint bench constraints release-check clean

quickstart: .venv/installed  ## a whole grid search on the embedded model and data, ending in its table
	$(BIN)/python grid_search_tools/grid_search.py --demo --devices cpu

test: .venv/installed-dev  ## every test, on three processes; PYTEST="-n 8" for more
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST)

test-fast: .venv/installed-dev  ## the tests that take milliseconds
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(PYTEST)

coverage: .venv/installed-dev  ## every test, and the lines of the package that none of them runs, processes of trials included
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term-missing:skip-covered $(PYTEST)

lint: .venv/installed-dev  ## style, types, spelling, and words and phrases that are hard to read
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/codespell *.md Makefile .ci/* docs cluebench classification mrc grid_search_tools benchmarks findings tests
	! git grep -nwEif .ci/plain_phrases.txt -- '*.md' '*.py' '*.sh' '*.sbatch' '*.html' '*.js' ':!*_zh.md'

bench: .venv/installed-dev  ## every claim of speed, measured here and now, as one table
	$(BIN)/python benchmarks

release-check:  ## whether this commit can be released: a fresh clone for each Python that is installed
	.ci/release_check

constraints: .venv/installed-dev  ## constraints.txt again, for Python 3.10 to 3.12; UPGRADE=--upgrade takes the newest of everything
	$(BIN)/pip install --quiet uv==0.13.9
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --custom-compile-command "make constraints" \
		--extra dev --extra ray $(UPGRADE) --output-file constraints.txt pyproject.toml constraints.in

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed; name it with: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements-cpu.txt constraints.txt pyproject.toml
	$(BIN)/pip install --quiet -r requirements-cpu.txt && touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev,ray]" && touch $@

clean:  ## removes the demo's results, not the environment
	rm -rf demo
