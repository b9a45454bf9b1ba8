# Needs python3, g++, make and git; everything else goes into .venv, pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
BUILD_INPUTS := pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard csrc/*)
BENCHES := noise moments smooth_hess fashion_mnist

# A file of constraints given by its variable also holds for the isolated build of the package.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all bench lint docs clean

demo: .venv/demo.stamp
	$(BIN)/hessx demo --out out/demo

test: .venv/test.stamp
	$(BIN)/python -m pytest

test-all: .venv/test.stamp
	$(BIN)/python -m pytest -m "not gpu"

bench: .venv/test.stamp
	set -e; for name in $(BENCHES); do $(BIN)/python -m bench.$$name; done

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run -Werror csrc/*.h csrc/*.cpp
	$(BIN)/mypy

docs: .venv/test.stamp
	$(BIN)/pip install --quiet pdoc
	$(BIN)/pdoc --docformat google --math --output-directory out/docs hessx

clean:
	rm -rf build dist out *.egg-info .venv hessx/_native*.so

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

# Editable: the tests run against this tree, with the compiled module put into it.
.venv/demo.stamp: .venv/pyvenv.cfg $(BUILD_INPUTS)
	$(BIN)/pip install --editable '.[demo]'
	touch $@

.venv/test.stamp: .venv/pyvenv.cfg $(BUILD_INPUTS)
	$(BIN)/pip install --editable '.[demo,test,bench]' triton
	touch $@ .venv/demo.stamp
