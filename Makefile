# The commands for a start. Everything else is Snakemake: bin/zagreus --help.

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

help: ## print this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## set this machine up: Snakemake, and Apptainer where there is none
	@$(SETUP)

doctor: ## say what this machine lacks, with the remedies; works before `make setup`
	@python=$$(scripts/setup/find_python.sh 2> /dev/null || command -v python3 || command -v /usr/libexec/platform-python) \
	|| { echo "error: no Python at all: $$(scripts/setup/find_python.sh 2>&1)" >&2; exit 2; }; "$$python" -I scripts/doctor.py

# TORCH=cpu|cuda12|cuda13; CONFIG: the configuration whose other settings hold.
TORCH ?=
CONFIG ?= config/demo.yaml
images: setup ## build the images on this machine (TORCH=cpu, cuda12 or cuda13)
	@bin/zagreus images --configfile $(CONFIG) $(if $(TORCH),--config torch=$(TORCH))

# TO=HOST:FOLDER or FOLDER: a checkout of the same commit.
TO ?=
copy-images: ## copy the images to another checkout, and check them there (TO=HOST:FOLDER)
	@scripts/setup/copy_images.sh "$(TO)"

check-images: ## compare the images on this machine with their manifests
	@$(FOUND) scripts/setup/check_images.py

demo: setup ## run the whole pipeline, small, on real text; ends with the scores and the report
	@bin/zagreus all --configfile config/demo.yaml
	@.tools/venv/bin/python -P scripts/show_scores.py results/demo
	@echo "ask it:  echo 'Accendi le luci in cucina' | bin/zagreus chat results/demo/models/nesso-agentic/sft --temperature 0"
	@echo "talk to a model in the browser: bin/zagreus serve results/demo/models/nesso-instruct/dpo"

test: lint dryrun unit integration ## run the tests (half an hour on two cores)

lint: .tools/dry ## check formats, style and types
	@.tools/dev/bin/ruff check --quiet .
	@.tools/dev/bin/ruff format --check --quiet .
	@.tools/dev/bin/mypy
	@.tools/dev/bin/snakefmt --check Snakefile rules tests/unit.smk tests/bench.smk tests/models.smk tests/integration/chain.smk

dryrun: .tools/dry ## compare dry-runs with the goldens, and test the host's code; no container or network
	@$(DEV) -m pytest -q -n logical --maxprocesses 8 --dist loadfile tests/dag tests/unit/host

unit: .tools/dev ## run the unit tests, each in the image that its code runs in
	@APPTAINER_BIND="$(abspath $(wildcard ../shared))" bin/zagreus unit_data unit_train unit_posttrain unit_evaluate unit_export --snakefile tests/unit.smk --configfile config/test.yaml

# SLOW=german, SLOW=chain, SLOW=ladder, SLOW=debian: a long test in their place (10 to 20 minutes each).
integration: .tools/dev ## run the smallest pipeline twice, in the real images, and compare
	@$(DEV) -m pytest -q --capture=no tests/integration --ignore tests/integration/test_slurm.py $(if $(SLOW),-m slow -k $(SLOW))

# SLOW=whole: the whole test-size pipeline in its place; SLOW=demo: the demo.
cluster: .tools/dev ## train on a Slurm of eight nodes that runs on this machine (15 minutes; not in `make test`)
	@$(DEV) -m pytest -q --capture=no tests/integration/test_slurm.py $(if $(SLOW),-m slow -k $(SLOW))

# BENCH=name runs one of them; -j 1: a benchmark has the machine to itself.
BENCH ?= bench
bench: .tools/dev ## run the benchmarks (BENCH=name runs one benchmark); hours
	@bin/zagreus $(BENCH) --snakefile tests/bench.smk --configfile config/test.yaml --jobs 1

goldens: .tools/dry ## write the goldens of the dry-runs anew
	@$(DEV) tests/dag/test_goldens.py
	@$(DEV) tests/dag/test_reruns.py

docs: .tools/dry ## write docs/config.md anew from the schema
	@$(DEV) tests/unit/host/test_documentation.py

locks: .tools/dry ## make the locks of envs/ anew
	@$(DEV) scripts/setup/lock.py

# Set-up is itself quick where nothing is left to do, so it is asked each time.
.PHONY: .tools/dev .tools/dry
.tools/dev:
	@$(SETUP) --dev
.tools/dry:
	@$(SETUP) --only-dev

clean: ## remove all results; downloads, images and the set-up stay
	rm -rf results .snakemake
