# Two commands a new user needs: `make quickstart` and `make test`. Both build .venv and need Python >= 3.11 only.
# An environment that forbids bytecode would have every test that starts a process compile everything again.
export PYTHONDONTWRITEBYTECODE =
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What a device is to be used through: `make gpu-check EXTRAS=tpu,test`.
EXTRAS ?= cuda,test

.PHONY: quickstart docs gpu-check test test-slow test-oldest coverage lint format clean

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train]'
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-docs: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs,train]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-$(EXTRAS): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $(VENV)/.installed $(VENV)/.installed-test $@

quickstart: $(VENV)/.installed
	$(BIN)/learned-opt train quickstart $(ARGS)

# The site, in build/site: every tutorial is run, and a warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs build/site

# On a machine with an accelerator: its tests, times and shares of its peaks, in one JSON and one page.
gpu-check: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m benchmarks.gpu_check --out build/gpu_check $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Compiling touches much fresh memory: in few large pages, and kept once it is had, it costs some virtual machines half the time.
test test-slow test-oldest coverage: export PYTHONMALLOC = malloc
test test-slow test-oldest coverage: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.top_pad=67108864:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296

test: lint
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

# The tests of `make test`, and the share of lines they run. Apart from them: it takes half as long again, on Python 3.11 twice.
coverage: $(VENV)/.installed-test
	COVERAGE_CORE=$$($(BIN)/python -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')") \
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --cov --cov-report=term:skip-covered

# In a fresh environment with the oldest libraries that setup.cfg allows.
test-oldest: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow tests/modes/test_environments.py -k oldest

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .coverage
