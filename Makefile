# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every target works from any folder that holds a checkout and needs no root. `make help` lists them.
# Python: the newest python3 (3.11 or later) that is found; PYTHON=/path/to/python3 only starts the set-up.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Not exported: the set-up must never be run by the environment that it makes.
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.ansible/collections

.DEFAULT_GOAL := help
.NOTPARALLEL:

##@ Use

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv with all tools, and the collection path
	@$(PYTHON) tests/tools/setup_env.py dev

.PHONY: system
system: # Debian packages that the tests need: list the missing ones, and install them only in CI
	@$(PYTHON) tests/tools/system_packages.py

.PHONY: system-packages
system-packages: ## install the Debian packages that the tests need (as root)
	@$(PYTHON) tests/tools/system_packages.py --install

.PHONY: setup-demo
setup-demo: # only what the demo needs
	@$(PYTHON) tests/tools/setup_env.py demo

.PHONY: demo
demo: setup-demo ## run the collection on a cluster of appliance simulators
	@$(IN_VENV) $(BIN)/python tests/demo/run_demo.py

.PHONY: demo-down
demo-down: setup-demo ## stop the demo
	@$(IN_VENV) $(BIN)/python tests/demo/run_demo.py --down

##@ Test

# Two groups, because both sanity stages use the same home folder. The longest stages come first.
GATES_1 := sanity types galaxy-importer certification ansible-lint
GATES_2 := sanity-floor contract package format lint yamllint docs-lint role-docs language changelog-lint licenses
SUITES := unit simulator conformance modules playbooks awx next browser demo-test
# What takes too long for every run of `make test`.
SLOW := sanity-tarball sanity-floor-clone sanity-next playbooks-floor playbooks-next simulator-wheel

# Stages that run two at a time.
comma := ,
together = $(subst $() ,$(comma),$(strip $(1)))

.PHONY: test
test: ## all gates and tests; the first failure ends the run
	@$(PYTHON) tests/tools/run_stages.py system setup $(call together,$(GATES_1)) $(call together,$(GATES_2)) $(SUITES) molecule

.PHONY: test-all
test-all: export UTRUST_TEST_MATRIX := all
test-all: ## `make test` with all combinations of every matrix, and the slow gates; before a release
	@$(PYTHON) tests/tools/run_stages.py system setup $(call together,$(GATES_1)) $(call together,$(GATES_2)) $(SLOW) $(SUITES) molecule

.PHONY: check
check: ## all gates
	@$(PYTHON) tests/tools/run_stages.py setup $(call together,$(GATES_1)) $(call together,$(GATES_2))

# ARGS goes to pytest: make unit ARGS="-k manifest -x"
# Most suites wait for nodes and processes, so they have more workers than the two cores that CI has.
.PHONY: unit
unit: setup ## tests/unit: pure functions, modules, guards
	@$(IN_VENV) $(BIN)/python -m pytest -n 2 --dist loadfile tests/unit $(ARGS)

.PHONY: simulator
simulator: system setup ## tests/appliance/tests: the appliance simulator
	@$(IN_VENV) $(BIN)/python -m pytest -n 4 --dist loadfile tests/appliance/tests $(ARGS)

.PHONY: conformance
conformance: system setup ## tests/conformance: transports against the appliance simulator
	@$(IN_VENV) $(BIN)/python -m pytest -n 4 --dist worksteal tests/conformance $(ARGS)

.PHONY: modules
modules: system setup ## tests/modules: modules through both runners
	@$(IN_VENV) $(BIN)/python -m pytest -n 3 --dist loadfile tests/modules $(ARGS)

.PHONY: playbooks
playbooks: system setup ## tests/playbooks: roles and playbooks through Ansible
	@$(IN_VENV) $(BIN)/python -m pytest -n 3 --dist loadfile tests/playbooks $(ARGS)

.PHONY: awx
awx: setup ## tests/awx: awx/setup.yml with the modules of awx.awx against a fake API of AWX
	@$(IN_VENV) $(BIN)/python -m pytest -n 3 --dist loadfile tests/awx $(ARGS)

.PHONY: next
next: setup ## playbooks on the next ansible-core: they pass without a warning
	@$(PYTHON) tests/tools/setup_env.py next
	@$(IN_VENV) $(BIN)/python -m pytest tests/next $(ARGS)

.PHONY: browser
browser: setup ## tests/browser: Webconf and the PIN pads of the appliance simulator in a headless Chromium
	@$(IN_VENV) $(BIN)/python -m pytest tests/browser $(ARGS)

.PHONY: demo-test
demo-test: setup ## tests/demo: the demo as README describes it
	@$(IN_VENV) $(BIN)/python -m pytest tests/demo $(ARGS)

.PHONY: molecule
molecule: setup ## all Molecule scenarios
	@$(IN_VENV) $(BIN)/molecule test --all

.PHONY: execution-environment
execution-environment: setup ## build the image of awx/ with podman, and run jobs in it
	@$(IN_VENV) $(BIN)/python -m pytest tests/image $(ARGS)

.PHONY: bench
bench: setup ## measure many nodes with many keys
	@$(IN_VENV) $(BIN)/python tests/bench/bench.py

##@ Gates, each one alone

.PHONY: format
format: setup ## ruff format, without changing anything
	@$(IN_VENV) $(BIN)/ruff format --check --diff .

.PHONY: lint
lint: setup ## ruff check
	@$(IN_VENV) $(BIN)/ruff check .

.PHONY: types
types: setup ## mypy
	@$(IN_VENV) $(BIN)/python tests/tools/check_types.py

.PHONY: yamllint
yamllint: setup ## yamllint
	@$(IN_VENV) $(BIN)/yamllint --strict .

.PHONY: contract
contract: setup ## two OpenAPI linters on docs/api/appliance-v1.yaml
	@$(PYTHON) tests/tools/setup_env.py contract
	@$(IN_VENV) $(BIN)/python tests/tools/check_contract.py

.PHONY: ansible-lint
ansible-lint: setup ## ansible-lint, profile production, nothing skipped
	@$(IN_VENV) $(BIN)/ansible-lint --offline

.PHONY: docs-lint
docs-lint: setup ## antsibull-docs: plugin documentation and every reference in it
	@$(IN_VENV) $(BIN)/antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs all --disallow-unknown-collection-refs .

.PHONY: role-docs
role-docs: setup ## option tables in the READMEs of the roles match the argument specs
	@$(IN_VENV) $(BIN)/python tests/tools/role_readmes.py --check

.PHONY: language
language: setup ## English of docs, messages, comments and task names
	@$(IN_VENV) $(BIN)/python tests/tools/check_language.py $(ARGS)

.PHONY: changelog-lint
changelog-lint: setup ## antsibull-changelog
	@$(IN_VENV) $(BIN)/antsibull-changelog lint

.PHONY: licenses
licenses: setup ## license lines in every source file
	@$(IN_VENV) $(BIN)/python tests/tools/check_licenses.py

.PHONY: package
package: setup ## build the tarball, check its content, install and use it
	@$(IN_VENV) $(BIN)/python tests/tools/check_package.py

.PHONY: galaxy-importer
galaxy-importer: setup ## import check of Galaxy and Automation Hub on the tarball
	@$(PYTHON) tests/tools/setup_env.py importer
	@$(IN_VENV) $(BIN)/python tests/tools/check_import.py

.PHONY: certification
certification: setup ## ansible-lint of the certification checker, in a plain clone and in the unpacked tarball
	@$(IN_VENV) $(BIN)/python tests/tools/check_certification.py

.PHONY: sanity
sanity: setup ## ansible-test sanity on a plain clone, with the newest ansible-core that fits
	@$(IN_VENV) $(BIN)/python tests/tools/sanity.py newest

.PHONY: sanity-floor
sanity-floor: setup ## ansible-test sanity on the unpacked tarball, with the oldest supported ansible-core
	@$(PYTHON) tests/tools/setup_env.py floor
	@$(IN_VENV) $(BIN)/python tests/tools/sanity.py floor --tarball

##@ Slow gates of test-all, each one alone

.PHONY: sanity-tarball
sanity-tarball: setup ## ansible-test sanity on the unpacked tarball, with the newest ansible-core that fits
	@$(IN_VENV) $(BIN)/python tests/tools/sanity.py newest --tarball

.PHONY: sanity-floor-clone
sanity-floor-clone: setup ## ansible-test sanity on a plain clone, with the oldest supported ansible-core
	@$(PYTHON) tests/tools/setup_env.py floor
	@$(IN_VENV) $(BIN)/python tests/tools/sanity.py floor

.PHONY: sanity-next
sanity-next: setup ## ansible-test sanity on a plain clone, with the next ansible-core
	@$(PYTHON) tests/tools/setup_env.py next
	@$(IN_VENV) $(BIN)/python tests/tools/sanity.py next

.PHONY: playbooks-floor
playbooks-floor: system setup ## tests/modules and tests/playbooks on the oldest supported ansible-core
	@$(PYTHON) tests/tools/setup_env.py floor
	@$(IN_VENV) UTRUST_TEST_CORE=floor $(BIN)/python -m pytest -n 2 --dist loadfile tests/modules tests/playbooks $(ARGS)

.PHONY: playbooks-next
playbooks-next: system setup ## tests/modules and tests/playbooks on the next ansible-core
	@$(PYTHON) tests/tools/setup_env.py next
	@$(IN_VENV) UTRUST_TEST_CORE=next $(BIN)/python -m pytest -n 2 --dist loadfile tests/modules tests/playbooks $(ARGS)

.PHONY: simulator-wheel
simulator-wheel: setup ## wheel of the appliance simulator, installed and used outside of the checkout
	@$(IN_VENV) $(BIN)/python tests/tools/check_simulator.py

##@ Keep house

.PHONY: fmt
fmt: setup ## let ruff format, and fix what it can
	@$(IN_VENV) $(BIN)/ruff format .
	@$(IN_VENV) $(BIN)/ruff check --fix .

.PHONY: role-readmes
role-readmes: setup ## write the option tables in the READMEs of the roles
	@$(IN_VENV) $(BIN)/python tests/tools/role_readmes.py

.PHONY: changelog
changelog: setup ## write the fragments into CHANGELOG.md, under the version of galaxy.yml
	@$(IN_VENV) $(BIN)/antsibull-changelog release --update-existing --reload-plugins

.PHONY: lock
lock: ## pin all tools with hashes again: make lock ARGS=--upgrade
	@$(PYTHON) tests/tools/setup_env.py lock
	@$(PYTHON) tests/tools/lock_requirements.py $(ARGS)

.PHONY: clean
clean: ## remove environments and generated files
	@rm -rf .venv .venv-* .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
