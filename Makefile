# The five commands. Each installs what it needs, says what it is doing and can be repeated.
.DEFAULT_GOAL := help
.PHONY: help demo test fuzz test-vagrant check bench clean lock proto

BIN := .venv/bin

help:
	@echo "make demo    bring up a three-node lab, show Services and pod networking at work"
	@echo "make test    make check, then every test (root: namespaces, packets, containers)"
	@echo "make check   formatting, lint, types and layer contracts"
	@echo "make test-vagrant   the lab on virtual machines, from building their box to destroying them"
	@echo "make fuzz    the property tests with 1,000 new random examples each"
	@echo "make bench   measure against peers on this machine"
	@echo "make clean   take down every lab, remove .venv and caches"

demo:
	@scripts/setup run
	@$(BIN)/podwire lab demo

# More workers than the two cores this is meant for, because many tests wait for the kernel or for other processes. Files are
# given out in this order: the longest first, so that short ones fill the end.
test: check
	@$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder tests/lab tests/runtime tests/kernel tests/unit

# The property tests of make test see the same examples every time; here they look for new ones.
fuzz:
	@scripts/setup test
	@$(BIN)/pytest --numprocesses 2 --hypothesis-profile new --timeout 3600 tests/unit

# The lab on virtual machines, emulated where there is no KVM: an hour on two cores. Not part of make test.
test-vagrant:
	@vagrant/test

check:
	@scripts/setup test
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@echo "check: formatting, lint, types and layers hold"

bench:
	@scripts/setup bench
	@$(BIN)/python -m tests.bench $(ARGS)

clean:
	@if [ -x $(BIN)/podwire ]; then $(BIN)/podwire lab down --all; fi
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# For maintainers: renew the lock files from pyproject.toml (needs uv).
lock:
	uv pip compile -q --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --extra build pyproject.toml -o requirements.lock
	uv pip compile -q --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	uv pip compile -q --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --extra bench -c requirements-dev.lock pyproject.toml -o requirements-bench.lock

# For maintainers: renew the generated modules of the .proto files.
proto:
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. pods/cri/runtime.proto
