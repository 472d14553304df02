# make demo: install, train softmax and pola for a minute each, print the table. make test: the test suite.
# make tables: the tables of the committed runs, results/tables.
# Each does its own set-up in .venv; PYTHON chooses the interpreter (3.11 or later).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test tables check format lint types clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/python run_lra.py --attn softmax pola --task listops --protocol quick
	$(BIN)/python run_lra.py report

test: $(READY)
	$(BIN)/python -m pytest

tables: $(READY)
	rm -rf results/tables
	$(BIN)/python run_lra.py report results/records --out results/tables

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/basedpyright

check: format lint types test

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
