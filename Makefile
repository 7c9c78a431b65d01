# make run    builds what is missing, starts akidb-api over ./akidb-data with the sample in it, and shows three searches
# make test   runs the tests; with CI=true all of them, the slow ones and those that need servers included
# make help   lists the rest

BIN := .venv/bin
CPP := build/cpp
PYTEST := $(BIN)/python -m pytest
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

.PHONY: help run develop test test-fast test-ci test-s3 test-cpp test-sanitizers fuzz test-arm test-arm-cpp test-arm-wheel report-arm lint lint-cpp lint-workflows format clean distclean
.PHONY: bench-ann bench-api bench-scale bench-storage bench-codec bench-filter bench-kernels bench-edge

help: ## list the targets
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | tr '@' '\t' | expand -t 26

run: ## start akidb-api with the sample; Ctrl-C drains and stops
	@scripts/setup.sh
	@exec $(BIN)/python scripts/run_demo.py

develop: ## .venv with what tests, linters and benchmarks need (bench-ann installs its peers)
	@scripts/setup.sh test lint bench

test: ## the fast tests; CI=true make test runs all
	@if [ "$$CI" = true ]; then $(MAKE) --no-print-directory test-ci; else $(MAKE) --no-print-directory test-fast; fi

test-fast:
	@scripts/setup.sh test
	$(PYTEST) -m "not slow and not s3"

# Two at a time, since each has stretches of one thread: an emulated Python, a fuzzer, a type checker. pytest last: its closing line is
# the run's.
test-ci:
	@scripts/setup.sh test lint
	$(MAKE) --no-print-directory -j2 --output-sync=target FUZZ_SECONDS=10 lint test-arm-wheel test-sanitizers lint-cpp fuzz test-arm-cpp test-cpp
	$(PYTEST) -n $(JOBS) --dist worksteal --durations=20

test-s3: ## the tests against real S3 servers (builds them at first use; needs Go)
	@scripts/setup.sh test
	scripts/build-s3-servers.sh
	$(PYTEST) -m s3

test-cpp: ## the C++ tests
	@scripts/setup.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B $(CPP) -DAKIDB_BUILD_TESTS=ON >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(CPP) --parallel $(JOBS)
	PATH="$(CURDIR)/$(BIN):$$PATH" ctest --test-dir $(CPP) --output-on-failure

test-sanitizers: ## the C++ tests under ASan, UBSan and TSan
	@scripts/setup.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/test-sanitizers.sh

FUZZ_SECONDS ?= 20
ifneq (,$(filter test-sanitizers,$(MAKECMDGOALS)))
fuzz: | test-sanitizers # in the same folder
endif
fuzz: ## mutated bytes to every native decoder, 20 s each; FUZZ_SECONDS=600 for long (needs Clang with libFuzzer)
	@scripts/setup.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/fuzz.sh $(FUZZ_SECONDS)

test-arm: ## all that can be known of ARM without one, emulated: the two below, at the same time
	@scripts/setup.sh test
	$(MAKE) --no-print-directory -j2 --output-sync=target test-arm-cpp test-arm-wheel

test-arm-cpp: ## the C++ tests on every kind of ARM processor, at every level, and instruction counts
	@scripts/setup.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/test-arm.sh

test-arm-wheel: ## the aarch64 wheel in an emulated CPython at every level (Debian 12; downloads 80 MB at first)
	@scripts/setup.sh test
	scripts/test-arm-wheel.sh

report-arm: test-arm-cpp ## write the table of docs/arm.md: cycles of the ARM kernels' loops (needs llvm-mca of LLVM 21)
	$(BIN)/python scripts/report_arm_kernels.py

lint: ## formatters, linters, types and layers; changes nothing
	@scripts/setup.sh test lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	find csrc tests/cpp bench -name '*.cc' -o -name '*.h' | xargs $(BIN)/clang-format --dry-run --Werror

lint-cpp: ## clang-tidy, a minute or two; changes nothing
	@scripts/setup.sh lint
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/lint -DAKIDB_BUILD_TESTS=ON -DAKIDB_BUILD_PYTHON=ON \
	  -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" >/dev/null
	$(BIN)/run-clang-tidy.py -quiet -hide-progress -j $(JOBS) -p build/lint -clang-tidy-binary $(BIN)/clang-tidy \
	  '$(CURDIR)/(csrc|tests/cpp)/'

lint-workflows: ## actionlint over .github/workflows (needs Go)
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

format: ## let the formatters have their way
	@scripts/setup.sh test lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	find csrc tests/cpp bench -name '*.cc' -o -name '*.h' | xargs $(BIN)/clang-format -i

EMBEDDINGS ?= sample/debian-packages.parquet
bench-ann: ## recall and queries per second against seven other libraries; EMBEDDINGS=file for the real set
	@scripts/setup.sh bench peers
	$(BIN)/python -m bench.ann 128-l2 768-cosine $(EMBEDDINGS)

bench-api: ## REST latencies, also of /health/live under load
	@scripts/setup.sh bench
	$(BIN)/python -m bench.api

bench-scale: ## a million vectors: ingest, restart, search
	@scripts/setup.sh bench
	$(BIN)/python -m bench.scale.run

bench-storage: ## commits, requests, restarts and merges on a folder and on MinIO (needs Go at first use)
	@scripts/setup.sh bench
	scripts/build-s3-servers.sh
	$(BIN)/python -m bench.storage.commits

bench-codec: ## the Cython codecs against their Python twins
	@scripts/setup.sh bench
	$(BIN)/python -m bench.codec.run

bench-filter: ## the field index and filters over it
	@scripts/setup.sh bench
	$(BIN)/python -m bench.filter.run

ONLY ?=
bench-kernels: ## the distance kernels of every type and instruction set (minutes); ONLY='int8 memory' for some
	@scripts/setup.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/bench -DAKIDB_BUILD_BENCH=ON >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/bench --parallel $(JOBS) --target bench_kernels
	build/bench/bench/kernels/bench_kernels $(ONLY)

bench-edge: ## this board in one JSON file and a report: kernels, index, joules (minutes; nothing else should run)
	@scripts/setup.sh bench
	$(BIN)/python -m bench.edge

clean: ## remove what was built; data and .venv stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .venv/.akidb-build
	find akidb bench scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf .venv
