# make demo: the six conditions of the figure, about five minutes on two cores.
# make test: the quick tests. Both create .venv on first use; nothing else needs to be set up.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow figure5 lint clean

demo: .venv/ready
	$(BIN)/neurofb demo --out out/demo

test: .venv/ready
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: .venv/ready
	$(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile

figure5: .venv/ready
	$(BIN)/neurofb demo --preset figure5 --out out/figure5

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch .venv/ready

clean:
	rm -rf .venv out
