# Everything a developer or a machine runs. `make help` lists the targets.
.PHONY: help test setup lint docs bench
.NOTPARALLEL:

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: setup lint docs ## runs every check and test, and counts the tests by kind; as root on Debian it installs what they need
	@tests/setup/run

# What can't be fetched is gone past: the tests that need it say so, and fail where none may be skipped.
setup: ## fetches what the tests of kind real need, or says what is missing
	-@tests/setup/packages
	-@tests/setup/corpus

lint: ## checks format and lints, warnings denied
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

docs: ## builds the documentation, private items included, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

bench: ## runs the benchmarks
	cargo bench
