# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every target works from any folder that holds a checkout and needs no root. `make help` lists them.
# Python: the newest python3 (3.11 or later) that is found; PYTHON=/path/to/python3 only starts the set-up.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.ansible/collections

.DEFAULT_GOAL := help
.NOTPARALLEL:

##@ Use

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv with all tools, and the collection path
	@$(PYTHON) tests/tools/setup_env.py dev

.PHONY: setup-demo
setup-demo: # only what the demo needs
	@$(PYTHON) tests/tools/setup_env.py demo

.PHONY: demo
demo: setup-demo ## a cluster of reference appliances, and the collection at work on it
	@$(BIN)/python tests/demo/run_demo.py

.PHONY: demo-down
demo-down: setup-demo ## stop the demo
	@$(BIN)/python tests/demo/run_demo.py --down

##@ Test

STAGES := check unit conformance playbooks demo-test molecule

.PHONY: test
test: ## everything that follows, one stage after the other; the first failure ends it
	@$(PYTHON) tests/tools/run_stages.py setup $(STAGES)

.PHONY: unit
unit: setup ## tests/unit: pure functions, modules, guards
	@$(BIN)/python -m pytest tests/unit

.PHONY: conformance
conformance: setup ## tests/conformance: transports against the reference appliance
	@$(BIN)/python -m pytest tests/conformance

.PHONY: playbooks
playbooks: setup ## tests/playbooks: modules, roles and playbooks through Ansible
	@$(BIN)/python -m pytest tests/playbooks

.PHONY: demo-test
demo-test: setup ## tests/demo: the demo does what README says
	@$(BIN)/python -m pytest tests/demo

.PHONY: molecule
molecule: setup ## all Molecule scenarios
	@$(BIN)/molecule test --all

.PHONY: bench
bench: setup ## measure many nodes with many keys
	@$(BIN)/python tests/bench/bench.py
