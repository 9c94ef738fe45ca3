# Each target installs what it needs; see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
RUN_READY := $(VENV)/.run-ready
DEV_READY := $(VENV)/.dev-ready
PEERS := .venv-peers

.PHONY: serve test check serve-test e2e cluster-test page-test vendor image-check model claims bench bench-peers chaos soak audit format clean

serve: $(RUN_READY)
	$(BIN)/acousticsense serve $(ARGS)

# Two test processes with one thread each: more would use much memory and save little time.
test: $(DEV_READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit --numprocesses 2 --dist worksteal $(ARGS)

check: $(DEV_READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

serve-test: $(DEV_READY)
	$(BIN)/pytest tests/serve $(ARGS)

e2e: $(DEV_READY)
	$(BIN)/pytest tests/e2e $(ARGS)

cluster-test: $(DEV_READY)
	$(BIN)/pytest tests/cluster $(ARGS)

# Needs chromium on the PATH, and skips without it.
page-test: $(DEV_READY)
	$(BIN)/pytest tests/page $(ARGS)

# The libraries of the page, by their versions in deployments/web/vendor/versions.json; needs npm.
vendor: $(DEV_READY)
	$(BIN)/python -m deployments.rendering.browser_libraries

image-check: $(DEV_READY)
	$(BIN)/python -m tests.support.image_steps $(or $(TARGET),cpu)

# The trunks are those of the shipped model; TRUNK=yamnet.tflite (ai-edge-litert) and
# MUSICNN=MSD_musicnn (tensorflow) convert them again.
LABELLED = $(DATA)/music $(DATA)/music_new --collection source_repo_folder
HYBRID = --variant vit_hybrid_musicnn --name acousticsense-hybrid --version 0.5.1 \
  $(if $(TRUNK),--trunk $(TRUNK)) $(if $(MUSICNN),--musicnn $(MUSICNN))

model: $(DEV_READY)
	test -d "$(DATA)" || { echo "set DATA=FOLDER, with music, music_new and ood in it" >&2; exit 2; }
	$(BIN)/acousticsense train $(LABELLED) --not-music $(DATA)/ood $(HYBRID) \
	  --out build/model --overwrite --threads 1 $(ARGS)
	cp build/model/*.json build/model/*.safetensors models/default/
	$(BIN)/acousticsense evaluate models/default $(LABELLED) \
	  --not-music $(DATA)/ood --out docs --card --about models/default/about.md

claims: $(DEV_READY)
	test -d "$(DATA)" || { echo "set DATA=FOLDER, with music, music_new and ood in it" >&2; exit 2; }
	$(BIN)/acousticsense train $(LABELLED) --not-music $(DATA)/ood $(HYBRID) \
	  --out build/no-noise --overwrite --threads 1 --no-noise $(ARGS)
	$(BIN)/python -m benchmarks.claims $(DATA) --without-noise build/no-noise

# Each script writes its section of docs/benchmarks.md and prints one line of JSON.
bench: $(DEV_READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.front_end $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.engine $(DATA)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.postprocess
	$(BIN)/python -m benchmarks.library
	$(BIN)/python -m benchmarks.claims.speed
	$(BIN)/python -m benchmarks.http_peers
	$(BIN)/python -m benchmarks.uploads
	$(BIN)/python -m benchmarks.overload

# The same library behind other servers, which have an environment of their own.
bench-peers: $(DEV_READY) $(PEERS)/.ready
	$(BIN)/python -m benchmarks.http_peers --python $(PEERS)/bin/python $(ARGS)

$(PEERS)/.ready: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet $(TORCH)
	$(PEERS)/bin/pip install --quiet --editable '.[reference]' litserve==0.2.19 bentoml==1.4.40
	touch $@

format: $(DEV_READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Install torch first and pinned: if pip is configured with a CPU build of this version it installs
# that one, and the later requirement "torch" is already satisfied.
$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(RUN_READY): pyproject.toml $(VENV)/bin/pip
	@echo "installing PyTorch and Ray into $(VENV): some minutes"
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable '.[batch,formats]'
	touch $@

$(DEV_READY): pyproject.toml $(RUN_READY)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# What callers notice while replicas die, a model is replaced, or other clients misbehave.
MINUTES ?= 3
chaos: $(DEV_READY)
	$(BIN)/python -m benchmarks.chaos --minutes $(MINUTES) $(ARGS)

# Fails if memory, open files, threads, shared memory or logs grow.
soak: $(DEV_READY)
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(ARGS)

# Known weaknesses of the versions in requirements.lock; asks a public database.
audit: $(DEV_READY)
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip
