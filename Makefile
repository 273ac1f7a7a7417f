# make demo            train, prune, export and measure a small BERT; one table at the end (under four minutes)
# make test            all tests on this machine
# make check           ruff, mypy, clang-format, refused words, and whether docs/reference is up to date
# make bench           the headline measurement: synthetic BERT-base, 90% sparse, against dense ONNX Runtime
# make bench-cpu       CPUs at length, against every other runtime that is installed (docs/bench.md says how)
# make bench-gpu       one NVIDIA GPU: kernels, training, BERT-base; goes on where it was stopped (MINUTES, default 20)
# make test-gpu        the tests of the Triton kernels and what stands on them, on the GPU
# make test-sanitize   the kernels under the address and undefined-behaviour sanitizers
# make test-no-compiler  an installation without a compiler works, at dense speed
# make test-arm64      the kernels cross-built for 64-bit Arm, under emulation
# make fuzz            malformed matrices and encoders for a minute (FUZZ_SECONDS); needs Clang
# make test-architectures  docs/architectures.md against exports of tiny models of every class of transformers (20 minutes)
# make test-runtimes   one exported model on ONNX Runtime 1.17, 1.20 and the newest
#
# Each makes the virtual environment it needs. PYTHON chooses the interpreter (3.10 to 3.13), OUT where results go.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FUZZ_SECONDS ?= 60
MINUTES ?= 20
RUNTIMES := 1.17.3 1.20.1
RUNTIMES_PYTHON ?= $(PYTHON)
RUNTIMES_ARCH ?= minilm-l6
.DEFAULT_GOAL := help

.PHONY: help demo test check bench bench-cpu bench-gpu test-gpu test-sanitize test-no-compiler test-arm64 fuzz test-architectures test-runtimes install clean

help:
	@sed -n 's/^# make/make/p' Makefile

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt CMakeLists.txt $(wildcard aerogel/kernels/cpu/src/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "aerogel needs Python 3.10 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/aerogel demo --out $(OUT)/demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses=4

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror aerogel/kernels/cpu/src/*.h aerogel/kernels/cpu/src/*.cc tests/kernels/cpu/*.cc
	$(BIN)/python tools/check_words.py
	$(BIN)/python tools/write_reference.py --check
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m aerogel.bench.headline --out $(OUT)/bench

bench-cpu: $(INSTALLED)
	$(BIN)/python -m aerogel.bench.cpu --out $(OUT)/bench-cpu

# BENCH_GPU=--dry-run runs all of it on the CPU, in small.
bench-gpu: $(INSTALLED)
	$(BIN)/python -m aerogel.bench.gpu --out $(OUT)/bench-gpu --minutes $(MINUTES) $(BENCH_GPU)

test-gpu: $(INSTALLED)
	@$(BIN)/python -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null || { echo "aerogel: error: there is no GPU" \
	  "that PyTorch can use here; install its CUDA build and a driver" >&2; exit 2; }
	AEROGEL_TEST_DEVICE=cuda TRITON_DEFAULT_FP_FUSION=1 $(BIN)/python -m pytest tests/kernels/triton tests/torch/gpu

# $(call kernels,FOLDER,CMAKE FLAGS): builds the test programs in build/FOLDER, with the cmake and ninja of the environment
# where the system has none.
define kernels
	PATH="$(PATH):$(abspath $(BIN))" && { command -v cmake >/dev/null && command -v ninja >/dev/null || \
	  $(BIN)/python -m pip install -q cmake ninja; } && \
	cmake -S . -B build/$(1) -G Ninja -DAEROGEL_TESTS=ON $(2) >/dev/null && cmake --build build/$(1)
endef

# $(call each,PATTERN,COMMAND): every program in build/ that fits, run by COMMAND, one on each processor at a time.
each = printf '%s\n' build/$(1) | xargs -P "$$(getconf _NPROCESSORS_ONLN)" -I{} sh -c 'echo $(2) {} && exec $(2) {}'

test-sanitize: $(INSTALLED)
	$(call kernels,sanitize,-DCMAKE_BUILD_TYPE=RelWithDebInfo -DAEROGEL_SANITIZE=ON)
	$(call each,sanitize/*_test)
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
	  AEROGEL_LIBRARY=build/sanitize/libaerogel.so $(BIN)/python -m pytest tests/kernels/cpu/test_ort_*.py

# The message of a library that is not there, and a stock session, from an installation that had no compiler.
test-no-compiler: $(INSTALLED)
	$(PYTHON) -m venv --clear $(OUT)/no-compiler
	CXX=/nonexistent $(OUT)/no-compiler/bin/python -m pip install -q .
	cd $(OUT)/no-compiler && bin/aerogel env | grep 'not built'
	$(BIN)/aerogel synth --arch bert-tiny --density 0.1 --out $(OUT)/no-compiler/checkpoint
	$(BIN)/aerogel export $(OUT)/no-compiler/checkpoint --out $(OUT)/no-compiler/model/model.onnx
	cd $(OUT)/no-compiler && bin/python -c 'import aerogel; print(aerogel.session("model/model.onnx").get_outputs()[0].shape)'

test-arm64: $(INSTALLED)
	@{ command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64-static; } >/dev/null || \
	  { echo "test-arm64 needs: apt-get install g++-aarch64-linux-gnu qemu-user-static"; exit 2; }
	$(call kernels,arm64,-DCMAKE_BUILD_TYPE=Release -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake)
	$(call each,arm64/*_test,qemu-aarch64-static -cpu max -L /usr/aarch64-linux-gnu)
	$(call each,arm64/*_test,qemu-aarch64-static -cpu cortex-a53 -L /usr/aarch64-linux-gnu)

# What is found is kept beside the programs, and so are the inputs that reached new code.
fuzz: $(INSTALLED)
	@command -v clang++ >/dev/null || { echo "fuzz needs: apt-get install clang libclang-rt-dev"; exit 2; }
	$(call kernels,fuzz,-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=clang++ -DAEROGEL_FUZZ=ON -DAEROGEL_TESTS=OFF)
	for program in build/fuzz/*_fuzz; do mkdir -p $$program.inputs && \
	  $$program -max_total_time=$$(( $(FUZZ_SECONDS) / 2 )) -artifact_prefix=$$program. $$program.inputs || exit 1; done

test-architectures: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses=4 -m slow tests/export/test_architectures.py tests/export/test_exporters.py

# The oldest runtimes have no wheels for Python 3.13; RUNTIMES_PYTHON then names an older interpreter.
# RUNTIMES_ARCH names another shape of `aerogel synth`.
test-runtimes: $(INSTALLED)
	$(BIN)/python tests/runtimes/make_models.py $(OUT)/runtimes $(RUNTIMES_ARCH)
	for version in $(RUNTIMES); do \
	  test -x $(OUT)/runtimes/$$version/bin/python || $(RUNTIMES_PYTHON) -m venv $(OUT)/runtimes/$$version && \
	  $(OUT)/runtimes/$$version/bin/python -m pip install -q "onnxruntime==$$version" "numpy<2" && \
	  $(OUT)/runtimes/$$version/bin/python tests/runtimes/check_models.py $(OUT)/runtimes || exit 1; done
	$(BIN)/python tests/runtimes/check_models.py $(OUT)/runtimes

clean:
	rm -rf build $(VENV) $(OUT)
