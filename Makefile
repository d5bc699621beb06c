# What a newcomer types. Everything else is Snakemake: bin/zagreus --help.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# SOFTWARE=venv runs the jobs without containers, in virtual environments from the same lock files.
SOFTWARE ?=
# The Python (3.11 to 3.14) that the environments are made with; empty: scripts/setup/find_python.sh looks for one.
PYTHON ?=
# Where the base image comes from (archive, registry, a file, docker://...), and a mirror of the registry; empty: chosen by itself.
BASE ?=
REGISTRY ?=
FOUND = python=$$(PYTHON="$(PYTHON)" scripts/setup/find_python.sh $(SOFTWARE)) && "$$python" -I
SETUP = $(FOUND) scripts/setup/setup.py $(if $(SOFTWARE),--software $(SOFTWARE)) $(if $(BASE),--base $(BASE)) $(if $(REGISTRY),--registry $(REGISTRY))
DEV := PATH="$(CURDIR)/.tools/apptainer/bin-private:$$PATH" .tools/dev/bin/python -P
export PYTHONPATH := $(CURDIR)
# A site's modules set these for other Pythons.
unexport PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONPLATLIBDIR PYTHONINSPECT PYTHONOPTIMIZE PYTHONWARNINGS

.PHONY: help setup doctor images copy-images check-images demo test lint dryrun unit integration cluster bench goldens docs locks clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## an environment for Snakemake, and Apptainer where the machine has none
	@$(SETUP)

doctor: ## what this machine has and lacks, with the remedies; works before set-up
	@python=$$(scripts/setup/find_python.sh 2> /dev/null || command -v python3 || command -v /usr/libexec/platform-python) \
	|| { echo "error: no Python at all: $$(scripts/setup/find_python.sh 2>&1)" >&2; exit 2; }; "$$python" -I scripts/doctor.py

# TORCH=cpu|cuda12|cuda13; CONFIG: the configuration whose other settings hold.
TORCH ?=
CONFIG ?= config/demo.yaml
images: setup ## the images, of the build of torch that TORCH names: on this machine, or to be copied to another
	@bin/zagreus images --configfile $(CONFIG) $(if $(TORCH),--config torch=$(TORCH))

# TO=HOST:FOLDER or FOLDER: a checkout of the same commit.
TO ?=
copy-images: ## copy the images to another checkout (TO=HOST:FOLDER) and check them there
	@scripts/setup/copy_images.sh "$(TO)"

check-images: ## compare the images that are here with their manifests: sha256, kind of processor
	@$(FOUND) scripts/setup/check_images.py

demo: setup ## the whole pipeline at laptop size, on real text: ends with the report and a table of scores
	@bin/zagreus all --configfile config/demo.yaml
	@.tools/venv/bin/python -P scripts/show_scores.py results/demo
	@echo "ask it:  echo 'Accendi le luci in cucina' | bin/zagreus chat results/demo/models/nesso-agentic/sft --temperature 0"

test: lint dryrun unit integration ## the tests

lint: .tools/dry ## formats, static checks, types
	@.tools/dev/bin/ruff check --quiet .
	@.tools/dev/bin/ruff format --check --quiet .
	@.tools/dev/bin/mypy
	@.tools/dev/bin/snakefmt --check Snakefile rules tests/unit.smk tests/bench.smk tests/models.smk

dryrun: .tools/dry ## dry-runs of the DAG (config.yaml under the slurm profile) against the goldens, and what runs on the host: no Apptainer, Slurm, GPU or network
	@$(DEV) -m pytest -q tests/dag tests/unit/host

unit: .tools/dev ## unit tests, each in the image that its code runs in
	@APPTAINER_BIND="$(abspath $(wildcard ../shared))" bin/zagreus unit_data unit_train unit_posttrain unit_evaluate unit_export --snakefile tests/unit.smk --configfile config/test.yaml

integration: .tools/dev ## the whole DAG at the smallest size, in the real images, twice
	@$(DEV) -m pytest -q --capture=no tests/integration --ignore tests/integration/test_slurm.py

# SLOW=whole: the whole test-size pipeline in its place; SLOW=demo: the demo.
cluster: .tools/dev ## training on a Slurm of eight nodes, which runs on this machine; a quarter of an hour, not in `make test`
	@$(DEV) -m pytest -q --capture=no tests/integration/test_slurm.py $(if $(SLOW),-m slow -k $(SLOW))

# BENCH=name runs one of them; -j 1: a benchmark has the machine to itself.
BENCH ?= bench
bench: .tools/dev ## the benchmarks, as ratios of interleaved runs (BENCH=name: one of them); hours
	@bin/zagreus $(BENCH) --snakefile tests/bench.smk --configfile config/test.yaml --jobs 1

goldens: .tools/dry ## write the goldens of the dry-runs anew
	@$(DEV) tests/dag/test_goldens.py
	@$(DEV) tests/dag/test_reruns.py

docs: .tools/dry ## write docs/config.md anew from the schema
	@$(DEV) tests/unit/host/test_documentation.py

locks: .tools/dry ## make the lock files of envs/ anew
	@$(DEV) scripts/setup/lock.py

# Set-up is itself quick where nothing is left to do, so it is asked each time.
.PHONY: .tools/dev .tools/dry
.tools/dev:
	@$(SETUP) --dev
.tools/dry:
	@$(SETUP) --only-dev

clean: ## remove results; downloads, images and the set-up stay
	rm -rf results .snakemake
