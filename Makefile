# `make demo` and `make test` need only Python 3.11 or later and make; they build .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# How long `make fuzz` tries each property; FUZZ_SEED repeats a run.
FUZZ_SECONDS ?= 60

.PHONY: demo test check pure test-compiled test-libraries lint types docs fuzz soak bench bench-quick reload-bench reload-bench-kill reload-bench-quiet dev-bench frameworks applications autobahn wheel clean

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("asgireload needs Python 3.11 or later; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[standard,test,dev]'
	@touch $(STAMP)

# Its page asks for /version ten times a second: without those lines a reload that fails can be seen.
demo: $(STAMP)
	@echo 'Open http://127.0.0.1:8000/ and http://127.0.0.1:9000/ (admin).'
	@echo 'Edit examples/demo/app.py, then in another terminal: $(BIN)/asgireload reload --wait'
	$(BIN)/asgireload app:app --app-dir examples/demo --workers 4 --admin-port 9000 --access-log-exclude /version

# Half of a process test is waiting, so more of them run at once than there are CPUs.
JOBS ?= 4
# pytest rewrites the assertions of all test files, and each of its processes does it anew where nothing is kept.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --dist worksteal

test: $(STAMP) lint types
	$(BIN)/python -m tests.prerequisites
	@# Hundreds of servers are started: none compiles our modules again, also where PYTHONDONTWRITEBYTECODE is set.
	$(BIN)/python -m compileall -q asgireload
	$(PYTEST) -n $(JOBS) -m 'not soak'

# The inner loop: what can be judged without starting a server.
PURE := $(addprefix tests/,admin benchmarks cli config development http http1 ipc log net supervisor websocket) \
  tests/test_layout.py tests/test_docs.py
check: $(STAMP)
	@$(MAKE) --no-print-directory -j 2 --output-sync lint types pure

pure: $(STAMP)
	$(PYTEST) -q -n 3 -m 'not process' $(PURE)

# The same tests over an installed wheel whose hot modules are compiled; needs a C compiler.
COMPILED := build/compiled
test-compiled: $(STAMP)
	rm -rf $(COMPILED) && mkdir -p $(COMPILED)/tree
	ASGIRELOAD_COMPILE=1 $(BIN)/python -m build --wheel --outdir $(COMPILED)/dist .
	$(PYTHON) -m venv $(COMPILED)/venv
	$(COMPILED)/venv/bin/pip install --quiet --disable-pip-version-check "$$(echo $(COMPILED)/dist/*.whl)[standard,test]"
	cp -r tests docs examples benchmarks pyproject.toml $(COMPILED)/tree
	cd $(COMPILED)/tree && ../venv/bin/python -m pytest -n 2 --dist worksteal -m 'not soak' tests/http tests/http1 tests/websocket tests/worker tests/admin tests/fuzz tests/ipc tests/process tests/cli

# Tests that take large libraries and tools through a fork or a start for real. They are skipped by `make test` where these are
# not installed, and have an environment of their own: some of them change every program of theirs.
LIBRARIES := .venv-libraries
LIBRARIES_STAMP := $(LIBRARIES)/.installed
$(LIBRARIES_STAMP): pyproject.toml
	$(PYTHON) -m venv $(LIBRARIES)
	$(LIBRARIES)/bin/pip install --quiet --disable-pip-version-check --editable '.[standard,test,libraries]'
	@touch $(LIBRARIES_STAMP)

test-libraries: $(LIBRARIES_STAMP)
	$(LIBRARIES)/bin/python -m pytest -n 2 -p no:ddtrace tests/template/test_fork_hazards.py tests/worker/test_inherited.py \
	  tests/process/starting/test_launchers.py tests/process/starting/test_wrappers.py tests/process/streams/test_mcp.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m asgireload.config.reference docs/reference/options.md

fuzz: $(STAMP)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 0 tests/fuzz tests/http1/test_differential.py

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak -n 0 -s

# The servers to compare with live in an environment of their own. ROUNDS, GOAL_ROUNDS, SECONDS, CASES and SERVERS take parts.
BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/.installed
BENCH_RUN := $(BENCH)/bin/python -m benchmarks.suite --rounds '$(or $(ROUNDS),0)' --goal-rounds '$(or $(GOAL_ROUNDS),0)' --seconds '$(or $(SECONDS),0)' --cases '$(CASES)' --servers '$(SERVERS)'
WHOLE := $(if $(CASES)$(SERVERS),,--docs)

$(BENCH_STAMP): pyproject.toml benchmarks/suite/peers.py
	$(PYTHON) -m benchmarks.suite.peers --environment $(BENCH)
	@touch $(BENCH_STAMP)

# What is measured is what is installed: built anew from the checkout, compiled where there is a compiler.
BENCH_INSTALL := $(BENCH)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .

bench: $(BENCH_STAMP)
	$(BENCH_INSTALL)
	$(BENCH_RUN) $(WHOLE)

bench-quick: $(BENCH_STAMP)
	$(BENCH_INSTALL)
	$(BENCH_RUN) --quick

# Clients of every kind while the code is replaced. RELOADS, SERVERS and SEED take parts or repeat; CHECKOUT=1 runs
# asgireload as it lies here, not compiled.
RELOAD_RUN := $(BENCH)/bin/python -m benchmarks.reloads --reloads '$(RELOADS)' --servers '$(SERVERS)' --seconds '$(SECONDS)' --seed '$(SEED)' $(if $(CHECKOUT),--checkout)
RELOAD_WHOLE := $(if $(SERVERS)$(RELOADS)$(SECONDS)$(CHECKOUT),,--docs)

reload-bench: $(BENCH_STAMP)
	$(BENCH_INSTALL)
	$(RELOAD_RUN) $(RELOAD_WHOLE)

reload-bench-kill: $(BENCH_STAMP)
	$(BENCH_INSTALL)
	$(RELOAD_RUN) --kill $(RELOAD_WHOLE)

reload-bench-quiet: $(BENCH_STAMP)
	$(BENCH_INSTALL)
	$(RELOAD_RUN) --quiet $(RELOAD_WHOLE)

# How soon a saved file is served, beside other servers in reload mode; about 8 minutes. EDITS, PROJECTS and SERVERS take parts.
DEV_BENCH_STAMP := $(BENCH)/.installed-development
$(DEV_BENCH_STAMP): pyproject.toml benchmarks/suite/peers.py
	$(PYTHON) -m benchmarks.suite.peers --environment $(BENCH) --development
	@touch $(DEV_BENCH_STAMP)

dev-bench: $(DEV_BENCH_STAMP)
	$(BENCH_INSTALL)
	$(BENCH)/bin/python -m benchmarks.development --edits '$(or $(EDITS),0)' --projects '$(PROJECTS)' --servers '$(SERVERS)' $(if $(EDITS)$(PROJECTS)$(SERVERS),,--docs)

# Frameworks and middleware under asgireload and under uvicorn, about 5 minutes. FRAMEWORKS, MIDDLEWARE and FEATURE take
# parts (names, and patterns as 'BaseHTTP*'); CHECKOUT=. runs asgireload as it lies there, not as installed. For another
# Python, give it an environment of its own: make frameworks PYTHON=python3.13 FRAMEWORKS_ENV=.venv-frameworks-3.13
FRAMEWORKS_ENV ?= .venv-frameworks
FRAMEWORKS_STAMP := $(FRAMEWORKS_ENV)/.installed
$(FRAMEWORKS_STAMP): pyproject.toml benchmarks/frameworks/environment.py
	$(PYTHON) -m benchmarks.frameworks.environment --environment $(FRAMEWORKS_ENV)
	@touch $(FRAMEWORKS_STAMP)

frameworks: $(FRAMEWORKS_STAMP)
	$(FRAMEWORKS_ENV)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
	$(FRAMEWORKS_ENV)/bin/python -m benchmarks.frameworks --frameworks '$(FRAMEWORKS)' --middleware '$(MIDDLEWARE)' --feature '$(FEATURE)' --checkout '$(CHECKOUT)' $(if $(FRAMEWORKS)$(MIDDLEWARE)$(FEATURE)$(CHECKOUT),,--docs)

# Real applications from PyPI, each in an environment of its own, through reloads, scaling and a stop. The first run
# installs them (several GB). Results are kept in build/applications/ and the page is written from all that are there, so a
# run that was broken off goes on where it was. APPLICATIONS takes parts (names, and patterns as 'data*'), which are run
# again, and leaves the page as it is; AGAIN=1 runs all again; DOCS=1 writes the page from what is kept and runs nothing.
APPLICATIONS_RUN = $(BIN)/python -m benchmarks.applications

applications: $(STAMP)
	$(APPLICATIONS_RUN) --applications '$(APPLICATIONS)' $(if $(APPLICATIONS)$(AGAIN),--again) $(if $(APPLICATIONS),,--docs) $(if $(DOCS),--docs-only)

# The test suite's client has a virtual environment of its own: nothing it needs is ours.
autobahn: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check uvicorn granian hypercorn
	test -x .venv-autobahn/bin/kosoku || ($(PYTHON) -m venv .venv-autobahn && \
	  .venv-autobahn/bin/pip install --quiet --disable-pip-version-check kosoku)
	$(BIN)/python benchmarks/autobahn.py

# An older wheel would be a second match of dist/asgireload-*.whl.
wheel: $(STAMP)
	rm -f dist/asgireload-*
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) $(BENCH) .venv-frameworks .venv-applications .venv-autobahn .venv-libraries dist build .mypy_cache .ruff_cache .hypothesis
