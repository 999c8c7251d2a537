# Needs make and Python 3.11 or newer; everything is installed into .venv. Another Python: make PYTHON=python3.12 demo
PYTHON ?= python3
BIN := .venv/bin
# Two workers on two cores; tests of one file share what they trained (tests/conftest.py gives each worker one thread).
PYTEST := $(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile

.PHONY: demo check test slow torchvision trackers ray docs bench clean

demo: .venv/demo.stamp
	$(BIN)/tunesmith demo

check: .venv/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(PYTEST)

# The pages that fine-tune MiniLM many times have a word of their own: make docs.
slow: .venv/test.stamp
	$(PYTEST) -m slow --ignore=tests/docs

docs: .venv/test.stamp
	$(BIN)/pytest tests/docs -m ""

# Torchvision and timm need the package index's own build of torch (5 GB), which an environment of its own holds.
torchvision: .venv-torchvision/stamp
	.venv-torchvision/bin/pytest -m torchvision tests/models/loaders/test_named.py

.venv-torchvision/stamp: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-torchvision
	@echo "Installing torchvision and timm into .venv-torchvision (5 GB) ..."
	@PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= .venv-torchvision/bin/pip install --quiet --disable-pip-version-check \
	  $(shell grep -E '^torch(vision)?==' constraints.txt)
	@.venv-torchvision/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[timm,torchvision]" pytest
	@touch $@

# Trackio wants an older Pillow than constraints.txt has: an environment on top of .venv, which it sees below its own.
trackers: .venv-trackers/stamp
	.venv-trackers/bin/python -m pytest tests/training/test_trackers.py tests/journeys/test_observers.py

.venv-trackers/stamp: .venv/test.stamp
	@$(BIN)/python -m venv .venv-trackers
	@echo "Installing MLflow, W&B and Trackio into .venv-trackers (240 MB) ..."
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > below.pth
	@mv below.pth $$(.venv-trackers/bin/python -c 'import site; print(site.getsitepackages()[0])')
	@grep -v '^pillow==' constraints.txt > .venv-trackers/constraints.txt
	@.venv-trackers/bin/pip install --quiet --disable-pip-version-check -c .venv-trackers/constraints.txt \
	  -e ".[mlflow,tensorboard,trackio,wandb]"
	@touch $@

# Ray has an environment on top of .venv too: it is large, and few need it.
ray: .venv-ray/stamp
	.venv-ray/bin/python -m pytest tests/journeys/test_ray.py

.venv-ray/stamp: .venv/test.stamp
	@$(BIN)/python -m venv .venv-ray
	@echo "Installing Ray into .venv-ray (250 MB) ..."
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > below.pth
	@mv below.pth $$(.venv-ray/bin/python -c 'import site; print(site.getsitepackages()[0])')
	@.venv-ray/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	@touch $@

bench: .venv/test.stamp
	set -e; for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean:
	rm -rf .venv .venv-torchvision .venv-trackers .venv-ray

# .venv/EXTRA.stamp: the environment with that extra; made again only when what is to be installed changes.
.venv/%.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing Tunesmith [$*] into .venv (the first time this fetches PyTorch and takes minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Tunesmith needs Python 3.11 or newer and \"$(PYTHON)\" is not that; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv
