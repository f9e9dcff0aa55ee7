# Everything a person or a machine runs here. Each target sets up what it needs in .venv/ first.
#   make run PORT=4001 HOST=0.0.0.0 CONFIG=routes.yaml DATA=data ARGS="--log-format json"
SHELL := /bin/sh
PY := .venv/bin/python
SETUP := sh scripts/setup.sh

# HOST, CONFIG and DATA are names that shells and package managers export for purposes of their own:
# these three count only when given on make's command line.
given = $(if $(filter command,$(origin $(1))),--$(2) "$($(1))")
SERVE_FLAGS = $(call given,CONFIG,config) $(call given,HOST,host) $(if $(PORT),--port "$(PORT)") $(call given,DATA,data)

# Floors 0 and 1 are pure and small: no line and no branch of theirs goes untested.
PURE := proxy/sse*,proxy/usage*,proxy/money*,proxy/tokens*,proxy/clock*,proxy/errors*,proxy/pricing/*,proxy/codecs/*,proxy/policy/*,proxy/routing/*,proxy/metering*

# $(call step,NAME,COMMAND): run one check; on failure the last line names it.
step = @printf 'check: %s\n' "$(1)"; $(2) || { printf 'make check: %s failed\n' "$(1)" >&2; exit 1; }

.PHONY: setup run test coverage check bench torture mutants prices

setup:
	@$(SETUP)

run: setup
	@.venv/bin/turnpike serve $(SERVE_FLAGS) $(ARGS)

test: setup
	@sh scripts/test.sh $(ARGS)

# The same, told which branches it takes: nearly twice as long, since servers that tests start are watched as well.
coverage: setup
	@COVERAGE=1 sh scripts/test.sh $(ARGS)
	@$(PY) -m coverage report --skip-covered --show-missing --fail-under=95
	@$(PY) -m coverage report --skip-covered --show-missing --fail-under=100 --include='$(PURE)'

check: setup
	$(call step,format (ruff format),.venv/bin/ruff format --check --quiet --output-format concise .)
	$(call step,lint (ruff check),.venv/bin/ruff check --quiet .)
	$(call step,types (mypy),.venv/bin/mypy --no-error-summary)
	$(call step,floors (lint-imports),.venv/bin/lint-imports --no-logo --cache-dir .cache/import_linter)
	$(call step,dead code (vulture),.venv/bin/vulture)
	$(call step,dependencies (deptry),.venv/bin/deptry --no-ansi proxy)
	@printf 'check: no findings\n'

bench: setup
	@$(PY) bench/compare.py --set turnpike $(ARGS)

torture: setup
	@$(PY) -m tests.torture $(ARGS)

mutants: setup
	@$(SETUP) requirements-mutants.lock
	@.venv/bin/mutmut run $(ARGS)
	@.venv/bin/mutmut results | { grep -v 'not checked' || true; }

prices: setup
	@$(PY) scripts/make_prices.py $(ARGS)
