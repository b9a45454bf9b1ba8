# Needs python3, g++, make and git; everything else goes into .venv, pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
BUILD_INPUTS := pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard csrc/*)
C_SOURCES = $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')
BENCHES := noise moments eigh trust_region softmax shrink prox grid grid_noise edges tv_flow \
	boxes squares infidelity_ops smooth_hess fashion_mnist caso leg_tv sensitivity infidelity
EXPERIMENTS := caso_rank_one caso_relaxation caso_first_against_second caso_path caso_gallery
EXPERIMENTS += leg_convergence leg_variance leg_gallery leg_noise leg_cascade leg_deletion
EXPERIMENTS += infidelity_tables infidelity_smoothing infidelity_squares infidelity_random_net
EXPERIMENTS += infidelity_robust infidelity_toy

# A file of constraints given by its variable also holds for the isolated build of the package.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The CUDA kernels too where their compiler is found, in a version that knows all architectures.
NVCC := $(shell nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
HAS_NVCC := $(shell printf '12.8\n%s\n' '$(NVCC)' | sort -C -V && echo 1 || echo 0)
export HESSX_BUILD_CUDA ?= $(HAS_NVCC)

.PHONY: demo test test-all bench experiments gpu-report mutants lint docs clean

demo: .venv/demo.stamp
	$(BIN)/hessx demo --out out/demo

test: .venv/test.stamp
	$(BIN)/python -m pytest

test-all: .venv/test.stamp
	$(BIN)/python -m pytest -m "not gpu"

bench: .venv/test.stamp
	set -e; for name in $(BENCHES); do $(BIN)/python -m bench.$$name; done

# The experiments of docs/experiments.md; tables and pictures go to out/experiments. What no extra
# installs is downloaded first (bench/data.py); without it, those that need it say so and stop.
experiments: .venv/test.stamp
	-$(BIN)/python -m bench.data
	set -e; for name in $(EXPERIMENTS); do $(BIN)/python -m bench.$$name; done

# Registers, occupancy and computed floors of every GPU kernel; no GPU is needed.
gpu-report: .venv/test.stamp
	$(BIN)/python -m bench.gpu_report

# Mistakes planted in every GPU kernel, one by one: how many do the checks catch?
mutants: .venv/test.stamp
	$(BIN)/python -m tests.gpu.mutants

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)
	$(BIN)/mypy

docs: .venv/test.stamp
	$(BIN)/pip install --quiet pdoc
	$(BIN)/pdoc --docformat google --math --output-directory out/docs hessx

clean:
	rm -rf build dist out *.egg-info .venv hessx/_native*.so hessx/_cuda*.so

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

# Editable: the tests run against this tree, with the compiled module put into it.
.venv/demo.stamp: .venv/pyvenv.cfg $(BUILD_INPUTS)
	$(BIN)/pip install --editable '.[demo]'
	touch $@

.venv/test.stamp: .venv/pyvenv.cfg $(BUILD_INPUTS)
	$(BIN)/pip install --editable '.[demo,test,bench]' triton
	touch $@ .venv/demo.stamp
