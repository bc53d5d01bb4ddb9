# make help lists everything. The variables can be given on the command line: make test JOBS=4

VENV = .venv
PYTHON = python3
TORCH =
DETECTRON2 =
ARGS =
JOBS = 2

RUN = "$(VENV)/bin/python"

.DEFAULT_GOAL := help
.PHONY: help setup demo study test test-all gpu-check lint format docs clean

define HELP

Variables:
  ARGS="..."        more arguments for the demo, the study or pytest: make test ARGS="-k attention"
  JOBS=2            processes that run the tests; threads of the study
  PYTHON=python3    the Python (3.10 or later) that creates the environment
  VENV=.venv        another folder for the environment. One of your own that has torch and
                    detectron2 already is used as it is; only dnl_det is added to it
  TORCH="..."       what pip installs as torch instead of the pinned pair (CUDA on Linux), e.g.
                    TORCH="torch==2.14.1 torchvision==0.29.1 --index-url https://download.pytorch.org/whl/cpu"
  DETECTRON2=...    what pip installs as detectron2 instead of the pinned redistribution: a folder,
                    a wheel or git+https://github.com/facebookresearch/detectron2.git
TORCH and DETECTRON2 are remembered; to start over, remove the environment: rm -r .venv
endef
export HELP

help: ## list the targets and variables
	@echo "Each target does the set-up it needs first."
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'
	@echo "$$HELP"

setup: ## create .venv and install everything pinned
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "$(PYTHON) was not found. Install Python 3.10 or later, or name it: make PYTHON=..."; exit 1; }
	@"$(PYTHON)" tools/setup/environment.py --venv "$(VENV)" --torch "$(TORCH)" --detectron2 "$(DETECTRON2)"

demo: setup ## train a small DNL Mask R-CNN on generated data, score it, draw its detections
	@$(RUN) tools/shapes/demo.py $(ARGS)

study: setup ## compare all blocks on generated data, hours; goes on where it was interrupted
	@OMP_NUM_THREADS=$(JOBS) nice $(RUN) tools/shapes/study.py $(ARGS)

# One thread a process: the processes would fight over the cores otherwise.
test: setup ## run the tests, but for the slow ones
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(ARGS)

test-all: setup ## run all tests, the slow ones too
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

gpu-check: setup ## on a machine with a CUDA device: its tests, times and training steps, as one table
	@$(RUN) tools/gpu_check.py $(ARGS)

lint: setup ## check style and types, change nothing
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy dnl_det train_net.py tools

format: setup ## bring the code into the style that lint checks
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: setup ## build the documentation site into build/site, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

clean: ## remove caches and build folders; keep .venv, datasets/ and output/
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find dnl_det tests tools -name __pycache__ -type d -prune -exec rm -r {} +
