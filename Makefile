# Two commands set everything up: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Said before anything is installed. Up to Python 3.12, a start reads the path of this folder in the locale's encoding.
CHECK := 'import locale, os, sys; v = sys.version_info; \
  v >= (3, 11) or sys.exit("Zoo needs Python 3.11 or later, this is %d.%d: make demo PYTHON=python3.13" % v[:2]); \
  e = locale.getencoding(); \
  v >= (3, 13) or os.getcwd().encode(e, "replace").decode(e) == os.getcwd() or sys.exit( \
  "The path of this folder cannot be written in the encoding of this locale, %s: export LC_ALL=C.UTF-8" % e)'

# Real data and third-party weights are beside a developer's checkout; without them, tests that need them are skipped.
ifneq ($(wildcard ../shared/data),)
export ZOO_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/weights),)
export ZOO_WEIGHTS ?= $(abspath ../shared/weights)
endif

# The tests start hundreds of processes: each reads the bytecode that the first one kept.
export PYTHONDONTWRITEBYTECODE :=

# One worker with one thread per core is faster than one worker with several threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal --durations 10

.PHONY: demo test test-slow test-random test-versions mutants lint generate docs try dist bench clean

demo: $(VENV)/demo-ready
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

# TESTFLAGS go to pytest: --fail-on-skip fails where data or a library is missing.
test: lint
	$(PYTEST) $(TESTFLAGS)

test-slow: $(VENV)/test-ready
	$(BIN)/python -m pytest -q -m slow --timeout 3600 --durations 10 $(TESTFLAGS)

test-random: $(VENV)/test-ready
	$(PYTEST) --random-order $(TESTFLAGS)

test-versions: $(VENV)/test-ready
	$(BIN)/python tests/support/versions.py

# Small faults put into FILES one at a time, in a copy: those that TESTS let pass. tests/README.md names a module's tests.
FILES ?= zoo/manifest/*.py
TESTS ?= tests/manifest tests/plugins/publish/test_publishing.py
MUTANTS := build/mutants

mutants: $(VENV)/test-ready
	$(BIN)/python -m pip install --quiet "mutmut>=3.8,<4"
	rm -rf $(MUTANTS) && mkdir -p $(MUTANTS)
	git ls-files -z | xargs -0 cp --parents -t $(MUTANTS)
	cp -r $(MUTANTS)/plugins/zoo_* $(MUTANTS)  # mutmut takes a module's name from its path
	printf '%s\n' "[mutmut]" "source_paths=" $(patsubst %,"  %",zoo $(notdir $(wildcard plugins/zoo_*))) \
	    "only_mutate=" $(patsubst %,"  %",$(FILES:plugins/%=%)) "also_copy=" \
	    $(patsubst %,"  %",docs examples plugins weights_manifest README.md) "pytest_add_cli_args_test_selection=" \
	    $(patsubst %,"  %",$(TESTS)) "use_git_change_detection=false" > $(MUTANTS)/setup.cfg
	cd $(MUTANTS) && OMP_NUM_THREADS=1 $(abspath $(BIN))/mutmut run --max-children $$(nproc)
	cd $(MUTANTS) && $(abspath $(BIN))/mutmut results

lint: $(VENV)/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

# All of docs that follows from the code. What is measured (exports, answers, conformance) is measured again where it has changed.
generate: $(VENV)/test-ready
	$(BIN)/python docs/export.py
	$(BIN)/python docs/answers.py
	$(BIN)/python docs/conformance.py
	$(BIN)/python docs/accuracy.py
	$(BIN)/python docs/schema.py
	$(BIN)/python docs/course/notebooks.py
	$(BIN)/python docs/course/exercises.py
	$(BIN)/python docs/course/digits.py
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/tables.py
	$(BIN)/python tests/support/map.py

# The site in build/docs, with the gallery in it: python -m http.server --directory build/docs shows it. The first time
# takes minutes. After make try, the gallery has the page to try networks. SITE_ADDRESS and SITE_VERSIONS: docs/site.md.
RUNTIME := build/npm/node_modules/onnxruntime-web/dist
PHOTOGRAPHS := efficientnet_lite0
SMALL := resnet20.digits resnet20.digits_robust resnet20.c10 plain20.c10 resnet20.fmnist alexnet_small.c10 \
    googlenet_small.c10 densenet_bc_40_12.c10 gcn4_3x3.mnist stn_cnn_mnist.mnist_rts dtp_mlp.mnist
TRY := $(if $(wildcard $(RUNTIME)),--runtime $(RUNTIME) --try-precision float16 \
    $(addprefix --try ,$(SMALL) $(if $(wildcard build/npm/$(PHOTOGRAPHS)),$(PHOTOGRAPHS))))

docs: $(VENV)/test-ready
	$(BIN)/zensical build --strict --clean
	mkdir -p build/atlas && cp -r docs/atlas/. build/atlas
	ZOO_OFFLINE=1 $(BIN)/zoo gallery atlas resnet20.digits -o build/atlas
	ZOO_OFFLINE=1 $(BIN)/zoo gallery build --docs ../index.html --failures docs/robustness.json \
	    --failures docs/looking/invariance.json --failures docs/looking/confusion.json --failures docs/series.json \
	    --failures docs/patch.json --atlas build/atlas $(TRY) -o build/gallery
	rm -rf build/docs/networks && cp -r build/gallery build/docs/networks
	$(BIN)/python docs/finish.py

# What runs networks in a browser, from npm, and a network for photographs: once.
try: $(VENV)/test-ready
	npm install --prefix build/npm --no-save --no-audit --no-fund onnxruntime-web@1.30.0
	$(BIN)/zoo fetch $(PHOTOGRAPHS) && touch build/npm/$(PHOTOGRAPHS)

# The files of a release, in dist: docs/releasing.md.
dist: $(VENV)/test-ready
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	test -z "$$(find dist -size +100M)" || (echo "A file in dist is larger than 100 MB, the limit of package indexes."; exit 1)

bench: $(VENV)/test-ready
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/fetch.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/levers.py
	$(BIN)/python benchmarks/look.py
	$(BIN)/python benchmarks/attack.py

$(VENV)/demo-ready: pyproject.toml | $(VENV)/torch-ready
	$(BIN)/python -m pip install --quiet --editable ".[data]"
	touch $@

$(VENV)/test-ready: pyproject.toml | $(VENV)/torch-ready
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

# Without a GPU, the torch that needs none: 200 MB instead of 3 GB. Where that index is out of reach, the usual one serves.
$(VENV)/torch-ready:
	@$(PYTHON) -c $(CHECK)
	$(PYTHON) -m venv $(VENV)
	@test "$$(uname -s)" != Linux || nvidia-smi >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --no-deps \
	    --retries 0 --timeout 10 --index-url $(TORCH_INDEX) torch torchvision 2>/dev/null || \
	    echo "$(TORCH_INDEX) is out of reach: torch comes from your package index, perhaps with 3 GB for GPUs."
	touch $@

clean:
	rm -rf $(VENV) dist build site .mypy_cache .pytest_cache .ruff_cache .hypothesis
