.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv/bin

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo:  ## Serve the demo model and detect objects in a photograph
	sh scripts/demo

test:  ## Install everything, then lint, type-check and run the tests
	sh scripts/test

quick:  ## Run the tests of the inner loop, which need no network, process or browser: under two minutes
	$(VENV)/pytest -q -m quick --timeout 60

slow:  ## Run the slow tests, which take minutes
	$(VENV)/pytest -m slow

lint:  ## Check style, types and imports between packages
	$(VENV)/ruff check . && $(VENV)/ruff format --check . && $(VENV)/mypy && $(VENV)/lint-imports

format:  ## Format the code
	$(VENV)/ruff check --fix . && $(VENV)/ruff format .

demo-model:  ## Export the demo model again: make demo-model CHECKPOINT=demo.pth
	$(VENV)/resnest export demo --checkpoint $(CHECKPOINT) --repository model_repository

docs:  ## Regenerate the table of settings in docs/operations.md
	$(VENV)/python -m scripts.settings_table

docs-site:  ## Build the documentation as a site, with its links checked, in site/
	NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict

sbom:  ## List the Python packages of the gateway's image in sbom.json, in CycloneDX's format
	sh scripts/sbom

constraints:  ## Pin the newest versions that fit pyproject.toml
	$(VENV)/pip install uv
	echo '# Exact versions for installing and testing: made by `make constraints`, not edited. torch pins the CUDA packages that are missing here; cuda-bindings differs between extras; TensorRT is that of the GPU image.' > constraints.txt
	$(VENV)/uv pip compile --universal --python-version 3.10 pyproject.toml --extra dev \
		--no-emit-index-url --no-header --no-annotate | grep -vP '^(cuda-(toolkit|bindings)|nvidia-(?!cuda-(crt|nvcc|runtime)|nvvm))' >> constraints.txt
	for part in cu12 cu12-bindings cu12-libs cu13 cu13-bindings cu13-libs; do \
		sed -n "s/^ARG TENSORRT=/tensorrt-$$part==/p" deploy/triton/gpu.Dockerfile; done >> constraints.txt

.PHONY: help demo test quick slow lint format demo-model docs docs-site sbom constraints
