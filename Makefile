# `make demo` and `make test` need git, make, a C compiler and a Python >= 3.12; everything else
# is installed below this folder: the environment in .venv, uv (if there is none) in .tools.
.DEFAULT_GOAL := help
.PHONY: help demo test test-mace lint lock clean

BIN := .venv/bin
INSTALLED := .venv/.installed
# all of pyproject.toml but mace, which cannot share an environment with mlp
EXTRAS := fem mlp electrostatics trajectories cluster peers dev
CASE := examples/argyrodite_cell/case.toml

help:
	@echo "make demo   from atoms to a discharge curve: runs $(CASE)"
	@echo "make test   the tests, with every warning an error"
	@echo "make test-mace   the tests of MACE, in an environment of their own (.venv-mace)"
	@echo "make lint   ruff and mypy"
	@echo "make lock   pin the dependencies of pyproject.toml again in requirements.lock"
	@echo "make clean  remove .venv, .tools and results"

demo: $(INSTALLED)
	@echo "Running $(CASE): molecular dynamics, transport, slab, discharge (a few minutes)."
	@$(BIN)/multiscale run $(CASE)

test: $(INSTALLED)
	@echo "Running the tests, two files at a time."
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-mace: $(INSTALLED)
	@echo "Installing mace-torch, which sevenn cannot live with, into .venv-mace."
	@PATH="$$PATH:.tools/uv/bin" uv venv --quiet --clear --python $(BIN)/python .venv-mace
	@PATH="$$PATH:.tools/uv/bin" uv pip install --quiet --python .venv-mace/bin/python \
		--editable ".[mace]" pytest
	@.venv-mace/bin/python -m pytest tests/atomistic/test_mace.py

lint: $(INSTALLED)
	@echo "Checking style and types."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

$(INSTALLED): requirements.lock pyproject.toml .python-version .ci/install
	@.ci/install
	@touch $@

lock: $(INSTALLED)
	@echo "Pinning the dependencies again."
	@PATH="$$PATH:.tools/uv/bin" uv pip compile pyproject.toml $(EXTRAS:%=--extra %) \
		--universal --python-version 3.12 --generate-hashes --no-emit-index-url \
		--no-emit-find-links -o requirements.lock

clean:
	@echo "Removing the environments, .tools and results."
	@rm -rf .venv .venv-mace .tools results
