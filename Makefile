# make demo   a network trained on phantom tomograms finds particles in others (about 10 minutes on 2 cores)
# make test   the whole test suite
# make best DATA=mine TOMOGRAMS=tomograms MINUTES=60   training on one's own picks, then the picks of all tomograms
# make lint   ruff
# make bench  the measurements of BENCHMARKS.md that need no data from outside
# make fuzz   20,000 damaged files: none may be a traceback, a hang or silently wrong (about 5 minutes)
# make kill   100 kills at random file operations: each script comes to the same (about 5 minutes)
# make audit  known vulnerabilities of the pinned packages (needs the network; docs/security.md)
# make docs   docs/flags.md (the page of all flags), docs/licences.md and constraints.txt
# Each makes .venv first when it is missing.

PYTHON ?= python3
RUN := .venv/bin/python
DEMO := demo

# Of make best: a third of the time for each fold; their networks pick together.
MINUTES := 60
FOLDS := 3
NAME := best
TOMOGRAMS = $(DATA)

.PHONY: demo test best lint bench fuzz kill audit docs

.venv/installed: requirements.txt requirements-cluster.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	touch $@

demo: .venv/installed
	rm -rf $(DEMO)
	$(RUN) make_phantom_dataset.py --output_dir $(DEMO)/data --num_train 4 --num_eval 2 --shape 64 192 192
	$(RUN) prepare_mask_czi.py --data_root $(DEMO)/data --save_plots
	$(RUN) prepare_fullpublic_eval_annotations.py --data_dir $(DEMO)/data/public
	$(RUN) train.py --data_root $(DEMO)/data --output_dir $(DEMO)/checkpoints --fold 0 --comment demo \
		--epochs 7 --steps_per_epoch 50
	$(RUN) eval_public_czi.py --model_path $(DEMO)/checkpoints/* --data_root $(DEMO)/data/public \
		--output_dir $(DEMO)/results --use_tta
	$(RUN) pick_particles.py --model_path $(DEMO)/checkpoints/* --tomograms $(DEMO)/data/public \
		--output_dir $(DEMO)/picks --use_tta --formats relion5 warp chimerax

test: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

best: .venv/installed
	$(RUN) train.py --data_root $(DATA) --num_folds $(FOLDS) --minutes $(MINUTES) --experiment_name $(NAME)
	$(RUN) eval_public_czi.py --model_path checkpoints/$(NAME) --data_root $(DATA) --use_tta \
		--hp_search_strategy per_class --output_dir results/$(NAME)_thresholds
	$(RUN) pick_particles.py --model_path checkpoints/$(NAME) --tomograms $(TOMOGRAMS) --use_tta \
		--per_class_hp_path results/$(NAME)_thresholds/thresholds.json

lint: .venv/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench: .venv/installed
	$(RUN) -m benchmarks.phantom
	$(RUN) -m benchmarks.input_pipeline
	rm -rf bench
	$(RUN) make_phantom_dataset.py --output_dir bench/data --num_train 4 --num_eval 2 --shape 96 192 192
	$(RUN) -m benchmarks.accuracy --data_root bench/data --public_root bench/data/public --output_dir bench/results \
		--epochs 8

fuzz: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks.fuzz

kill: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks.kill

audit: .venv/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check pip-audit
	$(RUN) -m pip_audit --requirement constraints.txt --disable-pip --no-deps

docs: .venv/installed
	$(RUN) -m docs.flags
	$(RUN) -m docs.licences
