# The set-up and the daily commands. Everything runs in the virtual environment VENV,
# which `env` makes on the first call and leaves alone when it is up to date.

VENV ?= .venv
WORK_DIR ?= work_dirs/quickstart
WORKERS ?= 2
ARGS ?=

CONFIG := configs/cluenet/cls_digits.py
# A command may exist and still fail (a shim of a version manager), so each is run;
# python3 where none fits, so that the set-up says what is wrong.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10; do \
  $$p -c '' >/dev/null 2>&1 && echo $$p && exit; done; echo python3)
# Not for the tools: dist_*.sh would start it in place of the environment's.
unexport PYTHON
RUN = "$(VENV)/bin/python"

.DEFAULT_GOAL := help
.PHONY: help env python test quickstart lint docs doctor clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo "  VENV=$(VENV)  the virtual environment"
	@echo "  PYTHON=   a Python 3.10, 3.11 or 3.12; found if not given"
	@echo "  WORKERS=$(WORKERS) processes for the tests; ARGS= more arguments for pytest"
	@echo "  WORK_DIR=$(WORK_DIR)  where quickstart writes"

env: ## set up the tested environment (the other targets do this by themselves)
	@$(PYTHON) tools/dev/setup_env.py --venv "$(VENV)"

python:
	@echo $(PYTHON)

test: env ## run the test suite
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

quickstart: env ## train CLUENet on the embedded digits, evaluate it, show its clusters
	$(RUN) tools/train.py $(CONFIG) --work-dir "$(WORK_DIR)" --resume auto
	$(RUN) tools/test.py $(CONFIG) "$$(cat "$(WORK_DIR)/last_checkpoint")"
	$(RUN) tools/visualize/clusters.py val $(CONFIG) "$$(cat "$(WORK_DIR)/last_checkpoint")" \
	  --out-dir "$(WORK_DIR)/clusters"
	$(RUN) tools/visualize/explore.py val $(CONFIG) "$$(cat "$(WORK_DIR)/last_checkpoint")" \
	  --importance all --out "$(WORK_DIR)/report.html"

lint: env ## check style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

docs: env ## build the pages as a site in build/site
	$(RUN) -m mkdocs build --strict

doctor: ## print versions, detect known problems and suggest fixes
	@if [ -x $(RUN) ]; then $(RUN) tools/doctor.py; else $(PYTHON) tools/doctor.py; fi

clean: ## remove build and test leftovers; the environment and work_dirs stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.*' -prune -exec rm -rf {} +
