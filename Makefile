# Tiny Amps: `make book` builds the book, `make test` tests everything, `make serve` shows it.
# Python 3.10 to 3.13 is found by itself; choose another one with `make PYTHON=/path/to/python`.

SHELL  := /bin/bash
VENV   := .venv
READY  := $(VENV)/.ready
BIN    := $(VENV)/bin
HTML   := _build/html
PLAY   := book/_static/play
PORT   ?= 8000
JOBS   ?= 2
PYTHON ?=
CANDIDATES := $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python3.10 python)
SUPPORTED  := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))

# One thread a process: the tests already run one process a core.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
PIP        := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet
# Python's own environment would reach into .venv: notebooks and tests must see only .venv.
unexport PYTHONPATH PYTHONHOME

.DELETE_ON_ERROR:
.PHONY: help setup book serve test lint colab pictures stamp models searches decay study clean

help:  ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv with everything that the book and the tests need

$(READY): pyproject.toml constraints.txt
	@python=; \
	for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c '$(SUPPORTED)' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "Tiny Amps needs Python 3.10, 3.11, 3.12 or 3.13, and found none$(if $(PYTHON), at $(PYTHON))." \
	         "Install one, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c '$(SUPPORTED)' >/dev/null 2>&1; then \
	    if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	        echo "$$python cannot make virtual environments: on Debian and Ubuntu, run" \
	             "'sudo apt install python3-venv', then make again." >&2; exit 1; \
	    fi; \
	    echo "Setting up $(VENV) with $$("$$python" --version) ..."; \
	    "$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing what the book and the tests need into $(VENV): a few minutes the first time ..."
	@$(PIP) -c constraints.txt -e '.[book,test,wasm]'
	@touch $@

book: $(READY)  ## Build the book into _build/html; a warning or a failing cell fails the build
	@echo "Building the book: every chapter runs from its first cell to its last ..."
	@rm -rf $(HTML)
	@$(BIN)/tinyamp page build $(PLAY)
	@TINYAMP_PLAY=$(CURDIR)/$(PLAY) $(BIN)/jupyter-book build . --all -W -n --keep-going
	@printf '\nThe book is built. Open it: make serve\nor, without the interactive parts: %s\n' \
	    "file://$(CURDIR)/$(HTML)/index.html"

$(HTML)/index.html:
	@$(MAKE) --no-print-directory book

serve: $(READY) $(HTML)/index.html  ## Serve the book on http://localhost:8000 (another port: PORT=…)
	@echo "The book is at http://localhost:$(PORT) (stop with Ctrl-C)."
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML) 2>/dev/null || [ $$? -eq 130 ] \
	    || { echo "Port $(PORT) is taken: choose another with make serve PORT=8001" >&2; exit 1; }

test: $(READY) lint  ## Check style, then run tests/ and every notebook, one process a core
	@echo "Testing the library, the tools and the built book ..."
	@$(ONE_THREAD) $(BIN)/python -m pytest tests -n auto --dist worksteal
	@echo "Testing the chapters: each runs in a fresh kernel ..."
	@$(ONE_THREAD) $(BIN)/python -m pytest --nbmake --nbmake-timeout=600 book -n auto

lint: $(READY)  ## Check style with ruff
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Run: $(BIN)/ruff format" >&2; exit 1; }

colab: $(READY)  ## Run every chapter as Colab would, in a fresh environment (half an hour)
	@$(ONE_THREAD) $(BIN)/python tests/rehearse_colab.py

pictures:  ## Draw the README's pictures and the card of a shared link anew, from the built book
	@$(BIN)/python -m tinyamp.picture
	@$(BIN)/python tests/screenshots.py

stamp: $(READY)  ## Stamp the repository's address into notebooks and README, and strip outputs
	@$(BIN)/tinyamp book stamp

models: $(READY)  ## Train the models that ship again, on the full simulated sets (half an hour)
	@$(BIN)/tinyamp data make
	@mkdir -p data/models
	@for device in sim-muff sim-crunch sim-lead sim-metal; do \
	    echo "Training $$device, 32 units ..."; \
	    $(BIN)/tinyamp train --device $$device --hidden-size 32 --processor cpu \
	        --out runs/models/$$device-32 --resume || exit 1; \
	    cp runs/models/$$device-32/model.safetensors data/models/$$device-32.safetensors; \
	done

searches: $(READY)  ## Search, retrain and compare two devices again, for chapters 5 to 7 (ten minutes)
	@$(BIN)/tinyamp data make
	@for device in sim-muff sim-metal; do \
	    run=runs/searches/$$device-32; kept=data/searches/$$device-32; \
	    echo "Searching masks for $$device, 32 units ..."; \
	    $(BIN)/tinyamp search --device $$device --model data/models/$$device-32.safetensors \
	        --processor cpu --out $$run --resume || exit 1; \
	    mkdir -p $$kept; \
	    cp $$run/search.json $$run/stage-*.safetensors $$kept; \
	    $(BIN)/tinyamp retrain $$run --processor cpu --out $$run/pruned --resume || exit 1; \
	    $(BIN)/tinyamp retrain $$run --processor cpu --out $$run/one-shot --resume --one-shot || exit 1; \
	    cp $$run/pruned/model.safetensors data/models/$$device-32-pruned.safetensors; \
	    cp $$run/one-shot/model.safetensors data/models/$$device-32-one-shot.safetensors; \
	done

decay: $(READY)  ## Run the experiment about weight decay again, for chapter 6 (two hours)
	@$(BIN)/tinyamp data make
	@$(BIN)/python -m tinyamp.study_decay run --jobs $(JOBS)
	@$(BIN)/python -m tinyamp.study_decay publish

study: $(READY)  ## Run the whole experiment, or go on with it (8 hours on two cores: JOBS=2)
	@$(BIN)/tinyamp data make
	@$(BIN)/tinyamp study run --jobs $(JOBS)
	@$(BIN)/tinyamp study rtf
	@$(BIN)/tinyamp study publish

clean:  ## Remove what was built; .venv and data stay
	rm -rf _build $(PLAY) .pytest_cache .ruff_cache .hypothesis
	find src tests book -name __pycache__ -o -name .ipynb_checkpoints -prune | xargs rm -rf
