# One word a job, the same locally and in CI. Needs Python 3.11+ and make; everything else comes into .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.installed

# What `check` needs to be told as a deployment would: nothing here is a secret of anything that runs.
CHECK_ENV := NOREGRET_SECRET_KEY=only-for-make-check-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEF NOREGRET_HTTPS=1 \
	NOREGRET_ALLOWED_HOSTS=noregret.example.com

.PHONY: install up demo test check format bench soak screenshots clients lock

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

up: install
	$(BIN)/python manage.py up

demo: install
	$(BIN)/python manage.py demo

# As many processes as there are cores, each with engines of its own; a file's tests stay together, and the longest
# files come first (tests/conftest.py).
test: install
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Pictures of the pages in README and docs, from the demo. Needs Chromium; about eight minutes.
screenshots: install
	$(BIN)/python -m tests.screenshots docs/screenshots

soak: install
	$(BIN)/python -m pytest -m soak

bench: install
	$(BIN)/python manage.py bench

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file clients/python/pyproject.toml
	$(BIN)/lint-imports
	$(CHECK_ENV) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(CHECK_ENV) $(BIN)/python manage.py check --deploy --fail-level WARNING

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The Python client's wheel and source into dist/, and the JavaScript client's modules where there is npm.
clients: install
	cd clients/python && ../../$(BIN)/python -m hatchling build --directory ../../dist
	@if command -v npm >/dev/null; then cd clients/javascript && npm ci --no-audit --no-fund && npm run build; \
	else echo "NO NPM: the JavaScript client is not built"; fi

# Needs uv on the path. Hashes, every platform, and no index address.
lock:
	uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header \
		--quiet --output-file requirements.lock pyproject.toml
