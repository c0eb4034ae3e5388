# Every target makes its own virtual environment when it is missing. Needs Python 3.11 or newer; `make check` also Node
# 18.18 or newer, for the page's scripts.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
APP_STAMP := $(VENV)/.app-installed
LOWER := .venv-lower
AUDIT := .venv-audit
WHEEL := .venv-wheel
NODE_STAMP := node_modules/.installed

.PHONY: app demo test test-fast faults coverage gpu lower-bounds lock wheel wheel-test container-check notebook check audit docs assets bench screenshots clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,trl]"
	touch $(APP_STAMP) $(STAMP)

# What a user needs, without the tools of the developers: half as many packages. Compiled when they are first imported: most
# of their files never are.
$(APP_STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test $(STAMP) -nt pyproject.toml -a $(STAMP) -nt constraints.txt || \
	  $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	touch $(APP_STAMP)

$(NODE_STAMP): package.json package-lock.json .npmrc
	npm ci --silent
	touch $(NODE_STAMP)

app: $(APP_STAMP)      ## the page at http://localhost:7860
	$(BIN)/geko-app

demo: $(APP_STAMP)     ## the built-in run on the command line
	$(BIN)/geko-train --demo

test: $(STAMP)         ## everything, the real browser included
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(STAMP)    ## all but the browser and the slow ones
	$(BIN)/python -m pytest -m "not browser and not slow"

faults: $(STAMP)       ## two hundred faults against short runs; needs Linux and a C compiler
	$(BIN)/python -m tests.faults --n 200 --table benchmarks/results/faults.md

coverage: $(STAMP)     ## the fast tests, with the share of lines and branches that they reach
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not browser and not slow" --cov --cov-report=term --cov-report=xml

gpu: $(STAMP)          ## on a machine with a GPU: the tests that need one, and GEKO against other trainers; into benchmarks/results
	$(BIN)/python -m benchmarks.gpu

lower-bounds:          ## the fast tests on the oldest versions that pyproject.toml allows
	test -x $(LOWER)/bin/python || $(PYTHON) -m venv $(LOWER)
	$(PYTHON) scripts/lower_bounds.py > $(LOWER)/constraints.txt
	$(LOWER)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWER)/constraints.txt -e ".[dev]"
	# Old versions warn about newer ones of others: here a warning is no error.
	$(LOWER)/bin/python -m pytest -n 2 --dist loadfile -m "not browser and not slow" -o filterwarnings=default --disable-warnings

lock:                  ## requirements.lock: every dependency with the hashes of its files, on every system
	test -x $(WHEEL)/bin/python || $(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet --disable-pip-version-check uv
	head -2 requirements.lock > requirements.lock.new
	$(WHEEL)/bin/uv pip compile --quiet --no-config --universal --python-version 3.11.5 --generate-hashes --no-header \
	  --no-annotate --constraints constraints.txt --extra all --extra mcp --extra space pyproject.toml >> requirements.lock.new
	mv requirements.lock.new requirements.lock

wheel:                 ## wheel and sdist, into dist/
	test -x $(WHEEL)/bin/python || $(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet --disable-pip-version-check build
	$(WHEEL)/bin/python -m build --outdir dist .

wheel-test:            ## builds both, looks into them, and uses the wheel in an empty environment outside of this folder
	$(PYTHON) scripts/wheel_test.py

container-check:       ## builds the CPU image (TORCH_INDEX=URL) and tries it: another user, a read-only root, a stop, a restart
	$(PYTHON) scripts/container_check.py -- --build-arg VARIANT=cpu --build-arg TORCH_INDEX="$(TORCH_INDEX)"

notebook:              ## writes notebooks/geko.ipynb anew
	$(PYTHON) scripts/make_notebook.py

audit:                 ## known vulnerabilities of the versions in constraints.txt; needs a network
	test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

check: $(STAMP) $(NODE_STAMP)  ## lint, formatting, import contracts, types; of the page's scripts too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	npm run --silent check

docs: $(STAMP)         ## the documentation, into site/: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

assets: $(STAMP)       ## makes the demo model and data anew from their seed
	$(BIN)/python scripts/make_assets.py

bench: $(STAMP)        ## every benchmark in its small version, into benchmarks/results/small
	$(BIN)/python -m benchmarks --small

screenshots: $(STAMP)  ## pictures of the page from a real run
	$(BIN)/python scripts/screenshots.py

clean:
	rm -rf $(VENV) node_modules $(LOWER) $(AUDIT) $(WHEEL) dist .mypy_cache .pytest_cache .ruff_cache .coverage* coverage.xml site
