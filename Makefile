# make demo    install, train softmax and pola, print the table: two to three minutes
# make test    the test suite, in two processes; TESTS="tests/test_cli.py -k list" chooses some
# make check   what continuous integration runs: format, lint, types, tests
# make format  writes the code the way check wants it
# make slow    the tests that take longer
# make soak    kills, flipped bits, full disks and odd inputs for MINUTES (27); PARTS="flips fuzz" chooses some
# make gpu     what is worth doing with one GPU for MINUTES (60): its tests, time and memory of a step, runs; again to go on
# make tables  the tables of the committed runs: results/tables, and README's
# Each target installs into .venv first; PYTHON chooses the interpreter (3.11 or later).
PYTHON ?= python3
PROCESSES ?= 2
MINUTES ?= 60
BIN := .venv/bin
READY := .venv/ready
PYTEST := $(BIN)/python -m pytest $(TESTS)

# Many containers set it; then every process that a test starts would compile our modules anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test slow soak gpu tables check check-format format lint types clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/' .venv/lib || true  # on all cores, where pip takes one
	touch $@

demo: $(READY)
	$(BIN)/python run_lra.py --attn softmax pola --task listops --protocol quick
	$(BIN)/python run_lra.py report

test: $(READY)
	$(PYTEST) -n $(PROCESSES) --durations 15

slow: $(READY)
	$(PYTEST) -m "slow and not gpu" --durations 15

soak: MINUTES = 27
soak: $(READY)
	PYTHONPATH=tests $(BIN)/python -m soak $(PARTS) --minutes $(MINUTES)

gpu: $(READY)
	$(BIN)/python run_lra.py gpu --minutes $(MINUTES)

tables: $(READY)
	$(BIN)/python run_lra.py report results/records --out results/tables --into README.md

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check-format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/basedpyright

check: check-format lint
	$(MAKE) --no-print-directory --jobs 2 types test  # types take one core, and tests leave some idle

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
