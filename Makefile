# Each target is a command a person could type; every one sets up what it needs first.
PYTHON ?= python3
BIN := .venv/bin
HOSTS := openssh-client openssh-server rsync iproute2 procps util-linux make
BENCHMARKS := loader training_step edges colorize overhead scaling search behaviour overfit serving instances

.PHONY: setup tune test test-all test-cluster lint format ui bench clean requirements

setup: .venv/ready

tune: setup  ## search the GAN family on sample photographs, on this machine
	$(BIN)/python ray_jobs/tune.py --model gan

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup
	$(BIN)/pytest -m "not cluster"

test-cluster: setup  ## a real cluster of three hosts on this machine; needs root
	dpkg-query -W $(HOSTS) >/dev/null || { apt-get update -q && apt-get install -q -y $(HOSTS); } || true
	$(BIN)/pytest tests/cluster -x -rs

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: setup  ## the MLflow page of what `tune` wrote, on http://127.0.0.1:5000
	$(BIN)/python ray_jobs/ui.py

bench: setup  ## long: the overfitting alone trains every recipe
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## what was set up and cached; results under runs/ stay
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: setup  ## resolve the pins anew
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --no-emit-index-url --no-annotate --no-header -q -o requirements.txt

# The environment is ready once this file is there; new pins set it up again. Python's files are
# compiled at once: where it may write none (PYTHONDONTWRITEBYTECODE), each process would by itself.
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
	  { echo "$(PYTHON) has no ensurepip: install its package (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=.venv \
	  $(BIN)/uv pip install --quiet --compile-bytecode -r requirements.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps -e .
	$(BIN)/python -m colorization doctor
	@touch $@
