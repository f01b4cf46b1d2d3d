# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.midge-setup
# They check machine code against other people's: assemblers, and an emulator. Tests that miss one skip with a line.
TOOLS := binutils-arm-none-eabi binutils-riscv64-unknown-elf binutils-xtensa-lx106 qemu-user
TOOLS_STAMP := .venv/.midge-tools

.PHONY: setup demo test soak lint bench bench-kernels clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[virtual,flash,plot,test]"
	touch $(STAMP)

# Installed where that is possible without asking; never a reason to fail.
$(TOOLS_STAMP): $(STAMP)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    export DEBIAN_FRONTEND=noninteractive; install="apt-get install -y -qq --no-install-recommends $(TOOLS)"; \
	    dpkg -s $(TOOLS) >/dev/null 2>&1 || timeout 300 $$install >/dev/null 2>&1 || \
	    { timeout 120 apt-get update -qq >/dev/null 2>&1 && timeout 300 $$install >/dev/null 2>&1; } || true; \
	fi
	@touch $@

demo: setup
	$(BIN)/midge demo

test: setup $(TOOLS_STAMP) lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

soak: setup $(TOOLS_STAMP)
	$(BIN)/python -m pytest -m soak -s

bench: setup
	$(BIN)/python tools/bench.py

bench-kernels: setup
	$(BIN)/python tools/bench_kernels.py
	$(BIN)/python tools/bench_pico.py
	$(BIN)/python tools/bench_signal.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright
	$(BIN)/python tools/check_device_types.py

clean:
	rm -rf .venv .pytest_cache .hypothesis .ruff_cache out
