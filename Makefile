# RedRock's commands. `make run` and `make test` are all that a newcomer needs.
#
# Build output lies outside the clone, so that the long first build of RocksDB is kept. Every
# cargo command takes the whole workspace in one profile: packages chosen one by one would get
# other features, and RocksDB would be compiled again.

SHELL := /bin/bash
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/redrock
export CARGO_TARGET_DIR ?= $(if $(REDROCK_TARGET_DIR),$(REDROCK_TARGET_DIR),$(CACHE)/target)
export PATH := $(PATH):$(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin
CARGO ?= cargo
export CARGO
BIN := $(CARGO_TARGET_DIR)/release
DATA_HOME := $(if $(XDG_DATA_HOME),$(XDG_DATA_HOME),$(HOME)/.local/share)
DATA_DIR := $(if $(REDROCK_DATA_DIR),$(REDROCK_DATA_DIR),$(DATA_HOME)/redrock)

.PHONY: help run build image test soak mutations fuzz fmt docs lint clean-data

help:
	@printf '%s\n' \
	  'make run         install what is missing, build, start a server on port 6379' \
	  'make build       build all programs into $(BIN)' \
	  'make image       a container image of them, for deploy/docker-compose.yml' \
	  'make test        all checks at small size (what CI runs)' \
	  'make soak        integration tests at full size (RR_SCALE, default 100)' \
	  'make mutations   sabotage the code in known places; each must turn a test red' \
	  'make fuzz        fuzz the decoders, a minute each (TARGET=, SECONDS=)' \
	  'make lint        formatting, scripts and clippy only' \
	  'make fmt         format the code' \
	  'make docs        write docs/commands.md anew from the server' \
	  'make clean-data  remove the data of `make run`: $(DATA_DIR)'

run:
	scripts/install-deps.sh run
	$(CARGO) build --release --workspace
	mkdir -p '$(DATA_DIR)'
	exec '$(BIN)/redrock-server' deploy/redrock.conf --dir '$(DATA_DIR)' $(ARGS)

build:
	$(CARGO) build --release --workspace

# The container image redrock:latest; BASE names the image to build upon.
image: build
	scripts/build-image.sh

test:
	scripts/test.sh

lint:
	scripts/test.sh lint

# Sizes are the small ones times RR_SCALE; there is no time limit.
soak:
	scripts/install-deps.sh test
	$(CARGO) build --release --workspace
	RR_SCALE=$${RR_SCALE:-100} $(CARGO) test --release --workspace -- --include-ignored --nocapture --test-threads=1

# `make mutations NAMES="one two"` takes only those of integration-tests/mutations/list.txt.
mutations:
	scripts/mutations.sh $(NAMES)

# One decoder with TARGET=, for as long as SECONDS says.
fuzz:
	scripts/fuzz.sh '$(TARGET)' $(if $(SECONDS),$(SECONDS),60)

fmt:
	$(CARGO) fmt --all

# Also after a change of integration-tests/fixtures/command-notes.tsv.
docs: build
	RR_TIDY_UPDATE=1 $(CARGO) test --release --workspace --test command_docs

clean-data:
	scripts/clean-data.sh '$(DATA_DIR)'
