# Everything a developer or a machine runs. `make help` lists the targets.
.PHONY: help quick test soak setup lint docs bench install deb

# What is installed or packed; without it, a release build.
BINARY ?= target/release/cynosure
PREFIX ?= /usr/local
DEB ?= target/deb/
.NOTPARALLEL:

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quick: lint ## checks format, lints, and every test that needs neither sockets nor other programs, in less than five minutes once built
	@if cargo nextest --version >/dev/null 2>&1; then run="nextest run"; else run=test; fi; cargo $$run --lib --test simulation --test tidy

test: setup lint docs ## runs every check and test, and counts the tests by kind; as root on Debian it installs what they need
	@tests/setup/run

soak: ## simulates months of weather and crashes, a thousand cases of ten days; about an hour on two cores
	SIMULATION_CASES=1000 cargo test --release --test simulation weeks_of_weather

# What can't be fetched is gone past: the tests that need it say so, and fail where none may be skipped.
setup: ## fetches what the tests of kind real need, or says what is missing
	-@tests/setup/packages
	-@tests/setup/newer
	-@tests/setup/corpus
	-@tests/setup/schemathesis

lint: ## checks format and lints, warnings denied
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

docs: ## builds the documentation, private items included, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

bench: ## runs the benchmarks
	cargo bench

install: $(BINARY) ## installs program, units, manual pages and completions below PREFIX (/usr/local); DESTDIR is put before it
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) packaging/install $(BINARY)

deb: $(BINARY) ## makes the Debian package, DEB (target/deb/); cargo installs cargo-deb for it if it is missing
	command -v cargo-deb >/dev/null || cargo install cargo-deb --locked
	rm -rf target/deb/root
	DESTDIR=target/deb/root PREFIX=/usr STRIP=1 packaging/install $(BINARY)
	cargo deb --no-build --no-strip --output $(DEB) $(DEB_OPTIONS)

target/release/cynosure: $(shell find src -name '*.rs') Cargo.toml Cargo.lock
	cargo build --release
	@touch $@
