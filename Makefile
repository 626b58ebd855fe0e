PYTHON ?= python3
BIN = .venv/bin
STAMP = .venv/.installed

.PHONY: demo test check bench phone lock clean

demo: $(STAMP)
	$(BIN)/chamnet demo

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.profiling
	$(BIN)/python -m benchmarks.storage
	$(BIN)/python -m benchmarks.predictors
	$(BIN)/python -m benchmarks.search --only-ours

phone: $(STAMP)
	$(BIN)/python -m tests.virtual_phone $(if $(ABI),--abi $(ABI)) $(if $(SOC),--soc $(SOC)) $(if $(PORT),--port $(PORT))

lock: $(STAMP)
	$(BIN)/pip-compile --quiet --extra dev --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
		--strip-extras --output-file requirements.lock pyproject.toml

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

clean:
	rm -rf .venv demo
