# Collapse Lab. Every target sets up what it needs in .venv and is quick the second time.
#   make run [ARGS="--server.port 8600"]   make test [ARGS="-k config"]   make attacks [FACTOR=30 SEED=1]   make lint   make bench [BENCH=throughput]   make docs   make screenshots   make ltx   make login   make clean

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
ARGS ?=
BENCH ?=
INSTALL := $(BIN)/python -m pip install --quiet
# Exactly what was tested, file by file: a package whose hash is not the one in requirements/ is refused.
FROZEN := $(INSTALL) --require-hashes --no-deps --requirement
DENO := DENO_DIR=$(VENV)/deno DENO_NO_UPDATE_CHECK=1 $(BIN)/deno

.PHONY: run test attacks lint bench docs screenshots ltx login clean chromium
.DELETE_ON_ERROR:

run: $(VENV)/.installed
	$(BIN)/streamlit run app.py $(ARGS)

# A file in one of three processes, which is right for two cores: who drives a browser or another process waits for it.
# In the order of tests/conftest.py.
test: $(VENV)/.installed-dev chromium
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# The attacks of tests/attacks at FACTOR times the size that `make test` gives them, from another SEED each time.
attacks: $(VENV)/.installed-dev
	QCORE_ATTACKS=$(or $(FACTOR),30) QCORE_SEED=$(or $(SEED),$$RANDOM) $(BIN)/python -m pytest tests/attacks -rA $(ARGS)

# Python, then the scripts and styles of the pages (deno.json).
lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(DENO) fmt --check
	$(DENO) lint
	$(DENO) check pages/assets qcore/viz/assets tests/assets

bench: $(VENV)/.installed-dev chromium
	@set -e; for file in bench/$(if $(BENCH),$(BENCH),[a-z]*).py; do \
		echo "== $$file"; $(BIN)/python "$$file" $(ARGS); \
	done

# The site of docs/ in build/docs, without the network: what is generated from the code anew, then every page; a broken
# link fails. Nothing of it may ask a server outside for a letter, a script or a picture.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m docs.generate
	$(BIN)/zensical build --clean --strict
	$(BIN)/python -m docs.offline

# The pictures of docs/assets: real short runs, every page of the app, in light and in dark (minutes).
screenshots: $(VENV)/.installed-dev chromium
	$(BIN)/python -m docs.screenshots $(ARGS)

# What the LTX-Video adapter needs beside the rest (diffusers, peft).
ltx: $(VENV)/.installed
	$(FROZEN) requirements/ltx.txt

# What a login needs beside the rest.
login: $(VENV)/.installed
	$(FROZEN) requirements/login.txt

clean:
	rm -rf $(VENV) build collapse_lab.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The first interpreter that runs and is new enough; PYTHON=/path/to/python3 overrides the search.
$(VENV)/.created:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3 python3.12 python3.13 python3.14); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Collapse Lab needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV) || { \
		echo "creating $(VENV) failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

# torch is another build on every kind of machine (CPU, CUDA), so its exact pin has no hash; nothing else can pull it in.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt requirements/run.txt
	@echo "Installing Collapse Lab and what it needs (minutes the first time)"
	$(FROZEN) requirements/run.txt
	$(INSTALL) --constraint constraints.txt torch
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.txt
	@echo "Installing the tools for tests and checks"
	$(FROZEN) requirements/dev.txt
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed requirements/docs.txt
	@echo "Installing the generator of the documentation"
	$(FROZEN) requirements/docs.txt
	@touch $@

# The browser tests drive Debian's Chromium. Where it cannot be installed they are skipped with a reason; with CI=true they fail.
chromium:
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "No chromium and no apt-get here: install Chromium by hand to run the browser tests" >&2; exit 0; \
	fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=; \
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	elif command -v sudo >/dev/null && [ -t 0 ]; then as_root=sudo; \
	else echo "Installing chromium needs root: run 'apt-get install chromium' as root to run the browser tests" >&2; exit 0; fi; \
	echo "Installing chromium for the browser tests (with apt-get, minutes the first time)"; \
	$$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null || \
		echo "chromium could not be installed: the browser tests will say so" >&2
