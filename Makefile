# Needs python3.11, git and make. Another interpreter: make test PYTHON=/path/to/python
PYTHON ?= python3.11

VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip --disable-pip-version-check install -qq
READY := $(VENV)/.ready
UNFINISHED := $(VENV)/.unfinished
OLD_NUMPY := 1.26
VISION := .venv-vision
TF := .venv-tf

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-slow test-capped test-vision test-tf test-install fuzz lint bench gpu race docs release

help:    ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(READY)    ## make .venv with every pinned package; the other targets do it by themselves

demo: $(READY)    ## train on data that ships with the packages and compare the methods
	@$(RUN) -m mixlayers demo

# Files side by side, a thread each, the long ones first (tests/conftest.py): JOBS=1 for one after another. A process that
# crashes ends the run: pytest-xdist, given another process for it, waited forever.
JOBS := 2
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: lint    ## run the linters, the core's tests and PyTorch's shared ones: the fast lane
	$(SIDE_BY_SIDE) tests/core tests/shared -k "core or torch"

test: lint    ## run the linters, then the tests
	$(SIDE_BY_SIDE)
	@$(MAKE) --no-print-directory test-capped

test-slow: $(READY)    ## run the tests one after another and list the slowest 30
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q --durations 30

# Near SSE4: PyTorch's, oneDNN's, MKL's (Paddle's too) and OpenBLAS's own names for it. None is JAX's.
CAPPED := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OPENBLAS_CORETYPE=Nehalem \
	MKL_ENABLE_INSTRUCTIONS=SSE4_2 MKL_CBWR=COMPATIBLE
NUMERIC := $(addprefix tests/shared/,test_iebn.py test_parity.py test_equality.py test_losses.py test_dropblock.py) \
	$(foreach name,torch paddle chainer,tests/$(name)/test_iebn.py tests/$(name)/test_blend.py) tests/paddle/test_models.py

test-capped: $(READY)    ## run the numeric tests as an old processor would, which adds up in another order
	$(CAPPED) $(SIDE_BY_SIDE) $(NUMERIC) -k "not googlenet and not jax"

test-vision: $(VISION)/.ready    ## run the tests beside torchvision, timm and fastai, in .venv-vision (6 GB)
	OMP_NUM_THREADS=2 $(VISION)/bin/python -m pytest tests/vision

# The tests of Keras where it runs on TensorFlow, and TensorFlow's own; PyTorch is not there.
KERAS_TESTS = $(filter-out %/test_beside_torch.py %/test_other_backend.py,$(wildcard tests/keras/test_*.py))

test-tf: $(TF)/.ready    ## run Keras' tests on TensorFlow, in .venv-tf (2 GB)
	KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 $(TF)/bin/python -m pytest tests/tf $(KERAS_TESTS)

N := 10000

fuzz: $(READY)    ## run N=10000 random programs against mixing by hand; the last line says what was found
	@OMP_NUM_THREADS=1 $(RUN) tests/programs/fuzz.py $(N)

lint: $(READY)    ## check style, types and who imports whom
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo

EXTRAS := core chainer augment view

test-install: $(READY)    ## install EXTRAS by the README's lines into empty environments, without pip's cache
	@$(RUN) tests/install/try_install.py $(EXTRAS)

docs: $(READY)    ## build the documentation, build/docs/index.html
	$(RUN) -m sphinx -q -W --keep-going -b html docs build/docs

release: docs    ## build the wheel and the source archive into dist, and try the wheel alone
	$(RUN) -m build --no-isolation --outdir dist
	$(RUN) -m pytest -q tests/repo/test_wheel.py

# The commands are those of the page's headings.
bench: $(READY) $(VISION)/.ready $(TF)/.ready    ## time what mixing costs, an hour, and write docs/results.md
	@sh -exc "$$(sed -n 's|^## .*`\(.*python benchmarks/.*\)`$$|\1 --record|p' docs/results.md | sed 's|^python|$(RUN)|')"

DEVICE := cuda
PARTS :=
GPU_OUT := build/gpu.json
GPU_PAGE = $(if $(filter cpu,$(DEVICE)),,--page docs/on_a_gpu.md)
HAS_TORCH := -c 'import numpy, torch'

# A machine with a GPU has a PyTorch for it already; only where no Python has one is .venv made.
gpu:    ## prove and measure on a GPU, ten minutes; DEVICE=cpu runs the same without one, PARTS="mixing steps" a part
	@for python in $(PYTHON) python3 $(RUN); do $$python $(HAS_TORCH) 2>/dev/null && break; python=; done; \
	[ -n "$$python" ] || { $(MAKE) --no-print-directory setup && python=$(RUN); } && \
	exec $$python benchmarks/gpu.py --device $(DEVICE) $(if $(PARTS),--parts $(PARTS)) --out $(GPU_OUT) $(GPU_PAGE)

RACE := --out docs/race.json --page docs/peers.md --picture docs/pictures/race.png

race: $(READY) $(VISION)/.peers    ## check and time other libraries' mixing; PADDLECLAS=checkout adds its operators
	@set -e; for python in $(VISION)/bin/python $(RUN); do \
		$$python benchmarks/conformance.py --out docs/peers.json --page docs/peers.md >/dev/null; done
	$(VISION)/bin/python benchmarks/race.py $(RACE) >/dev/null
	$(RUN) benchmarks/race.py --parts paddle $(RACE)

# A .venv whose set-up was broken off, or whose Python no longer runs, is made anew; any other is brought up to date.
ifneq ($(shell { $(RUN) -c 'print("runs")'; } 2>/dev/null),runs)
.PHONY: $(READY)
endif
fail = { echo "make: set-up failed: $(1)" >&2; exit 1; }

$(READY): requirements-dev.txt pyproject.toml $(addprefix backends/mixlayers_native/,_build.py _hook.py iebn.c iebn_sums.h iebn_maps.h rbn.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		$(call fail,'$(PYTHON)' is not a Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3.11)
	@if [ -e $(UNFINISHED) ] || ! $(RUN) -m pip --version >/dev/null 2>&1; then \
		echo "set-up: making $(VENV)"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); fi || \
		$(call fail,$(PYTHON) cannot make a virtual environment; is its venv module installed?)
	@touch $(UNFINISHED)
	@echo "set-up: installing the packages of requirements-dev.txt, about 3 GB, a few minutes"
	@$(INSTALL) --constraint requirements-dev.txt setuptools wheel || $(call fail,could not install the build tools)
	@$(INSTALL) --constraint requirements-dev.txt torch || $(call fail,could not install PyTorch)
	@$(INSTALL) --no-deps --no-build-isolation --requirement requirements-dev.txt || \
		$(call fail,could not install requirements-dev.txt)
	@rm -rf $(VENV)/numpy-$(OLD_NUMPY)
	@$(INSTALL) --no-deps --target $(VENV)/numpy-$(OLD_NUMPY) numpy==$(OLD_NUMPY).4 || \
		$(call fail,could not install the older NumPy that tests run the core on)
	@$(INSTALL) --no-deps --no-build-isolation --editable . || $(call fail,could not install mixlayers itself)
	@problems=$$($(RUN) -m pip check | grep -v -e '^No broken' -e '^mlxtend .* requires pandas' -e '^pyts .* requires '); \
		[ -z "$$problems" ] || { echo "$$problems"; $(call fail,the installed packages do not fit together); }
	@rm $(UNFINISHED)
	@touch $(READY)

# The opt-in lanes: torchvision does not fit the CPU build of PyTorch in .venv, and TensorFlow takes its time.
$(VISION)/.ready $(TF)/.ready: .venv-%/.ready: tests/%/requirements.txt pyproject.toml
	@echo "set-up: making $(@D), several minutes"
	@$(@D)/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf $(@D); $(PYTHON) -m venv $(@D); } || \
		$(call fail,$(PYTHON) cannot make a virtual environment; is its venv module installed?)
	@$(@D)/bin/python -m pip --disable-pip-version-check install -qq --requirement $< || \
		$(call fail,could not install $<)
	@$(@D)/bin/python -m pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable . || \
		$(call fail,could not install mixlayers itself in $(@D))
	@touch $@

$(VISION)/.peers: $(VISION)/.ready benchmarks/peers/requirements.txt
	@$(VISION)/bin/python -m pip --disable-pip-version-check install -qq --no-deps \
		--requirement benchmarks/peers/requirements.txt || $(call fail,could not install the peers)
	@touch $@
