# One word per task. `make` alone lists them.

CARGO ?= cargo

.PHONY: help run test test-rust test-python check loom bench counts bench-python fuzz deep docs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: ## build everything and compare the caches on an authorization gateway's load, then policy hits in Python with Redis
	$(CARGO) run --release -q -p sark-bench
	@if command -v redis-server >/dev/null; then \
		scripts/python.sh python -m sark_cache.bench policy --quick || echo "The Python package could not be built: no policy hits beside Redis."; \
	else echo "No policy hits beside Redis: redis-server is not installed."; fi

test: test-rust test-python ## all tests

test-rust: ## the tests of the engine and of the benchmark program
	$(CARGO) test
	$(CARGO) test --profile bench-tests -p sark-bench

test-python: ## the tests of the Python package, in its own environment (target/venv), and its type checks
	scripts/python.sh pytest -q --timeout 300
	scripts/python.sh scripts/python-types.sh

check: ## formatting, lints, docs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) check -p sark-shard --no-default-features
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

loom: ## the models of the hand-over
	RUSTFLAGS="--cfg loom" $(CARGO) test -p sark-delegate --test loom --release --target-dir target/loom

bench: ## criterion benches of the hot paths (compare with `-- --baseline NAME`)
	$(CARGO) bench -p sark-shard -p sark-delegate

counts: ## instruction counts of the hot paths, checked against their limits (if valgrind is installed)
	$(CARGO) bench -q -p sark-cache --bench counts

bench-python: ## compare the Python package with other caches that can be imported
	scripts/python.sh python -m sark_cache.bench

fuzz: ## a minute of fuzzing
	scripts/fuzz.sh 20 shard_ops cache_ops

deep: loom ## everything that takes long: broken hand-overs, a long fuzz, Miri, sanitizers, the soak test
	scripts/break-hand-over.sh
	PROPTEST_CASES=20000 $(CARGO) test --release -p sark-shard -p sark-cache
	SARK_STRESS=50 $(CARGO) test --release -p sark-delegate
	scripts/fuzz.sh 600
	scripts/miri.sh
	scripts/sanitizers.sh
	scripts/python-sanitizers.sh
	scripts/python-package.sh
	scripts/soak.sh

docs: ## the API documentation
	$(CARGO) doc --workspace --no-deps --open

clean: ## remove what was built
	$(CARGO) clean
