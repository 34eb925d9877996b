# Every target works from a fresh clone: `install` makes the virtual environment when it is missing or stale.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
CLEAR := build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage mutants

.PHONY: demo test soak bench coverage mutants lint status clean install format
.NOTPARALLEL:

# Where it is set, each of the hundreds of processes of a test run compiles anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: install
	$(BIN)/tirami demo

lint: install
	$(BIN)/ruff check src tests bench tools
	$(BIN)/ruff format --check src tests bench tools
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format src tests bench tools
	$(BIN)/ruff check --fix src tests bench tools

test: lint
	mkdir -p build
	rm -f build/rows.json
	$(BIN)/python -m pytest -m "not soak and not alone" -n 2 --dist loadfile --durations=15
	$(BIN)/python -m pytest -m "alone and not soak" --durations=15
	$(BIN)/python -m tools.status

soak: install
	$(BIN)/python -m pytest -m soak -p no:cacheprovider

bench: install
	$(BIN)/python -m bench

# Measuring coverage makes tests take twice as long. Not part of any tier.
coverage: install
	$(BIN)/python -m pytest -m "not soak and not alone" -n 2 --dist loadfile --cov --cov-report=term:skip-covered

# Hours: each of some thousand small changes to the rules of money runs the tests that touch it. Not part of any tier.
mutants: install
	nice -n 19 $(BIN)/mutmut run
	$(BIN)/python -m tools.mutants

status: install
	$(BIN)/python -m tools.status

clean:
	rm -rf $(CLEAR) $(VENV)
