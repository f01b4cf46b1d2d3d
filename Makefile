# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.midge-setup

.PHONY: setup demo test soak lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[virtual,plot,test]"
	touch $(STAMP)

demo: setup
	$(BIN)/midge demo

test: setup lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

soak: setup
	$(BIN)/python -m pytest -m soak -s

bench: setup
	$(BIN)/python tools/bench.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright
	$(BIN)/python tools/check_device_types.py

clean:
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache out
