# Every target prepares what it needs: a virtual environment in .venv, this package, its tools.
# The stamps under .venv make that happen once, and again when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: ask test test-long weights-test lint docs demo default-model drawings ablations learning-curve transfer clean

# Answer a question about the example image, and draw the most relevant regions.
ask: $(VENV)/installed
	$(BIN)/lxmert examples
	$(BIN)/lxmert ask examples/scene.png "What color is the ball?" --figure answer.png

# Tests offline on a CPU, with one thread for each of two processes; see CONTRIBUTING.md for the
# other tiers.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-dev
	$(TESTS)

test-long: $(VENV)/installed-dev
	$(TESTS) -m "long and not slow and not weights and not gpu"

# Fetch the published weights (2 GB) and check them; prints a table. Needs a network.
weights-test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m weights tests/weights -rA -q -s

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The documentation site, in build/docs; warnings are errors.
docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

# The bundled model in the browser: a static page in docs/demo. Needs npm and a network.
demo: docs/demo/index.html

docs/demo/index.html: $(VENV)/installed-dev
	npm install --no-save onnxruntime-web
	$(BIN)/lxmert export src/lxmert/default -o docs/demo --runtime web

# Train the bundled model from scratch, in stages; each stage resumes after an interruption.
RUN := runs/default
# One thread for each of two processes. The allocator keeps its memory: returning it costs a
# quarter of the time.
ALONE := OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184
TRAIN := $(ALONE) $(BIN)/torchrun --standalone --nproc-per-node 2 -m lxmert train
# Question types that need many examples are listed twice and sampled twice as often.
QUESTION_TYPES := what color size material exist compare place \
	count count relation relation same share two-step two-step
# Content of each split. Compositional scenes have questions only; those of the default seed were
# used to choose the training of the detector, so another seed is used for evaluation.
train := qa captions pairs --count 16000 --rounds 3 --groups 12000 \
	$(QUESTION_TYPES:%=--question-type %)
valid := qa captions pairs --count 800 --rounds 4 --groups 500
test := qa pairs --count 1000 --rounds 4 --groups 500
compositional := qa --count 1000 --rounds 4 --seed 2020
SCENES := $(RUN)/scenes
# Stages of fine-tuning before the one with all questions.
STAGES := simple share same places two-objects relations steps

default-model: src/lxmert/default_export/export.json

# With what `lxmert ask` answers: the bundled model without PyTorch.
src/lxmert/default_export/export.json: src/lxmert/default/README.md $(VENV)/installed-dev
	rm -rf $(@D)
	$(BIN)/lxmert export src/lxmert/default -o $(@D) --runtime onnxruntime

src/lxmert/default/README.md: $(RUN)/evaluation.json $(RUN)/compositional-evaluation.json \
		$(RUN)/pairs-evaluation.json $(RUN)/detector-evaluation.json \
		$(RUN)/compositional-detector-evaluation.json $(RUN)/timing.json $(RUN)/matching.json
	$(BIN)/python -m lxmert.lab.default_model $(RUN)

# The matching head is added to the answering model, whose other weights stay the same.
$(RUN)/matching.json: $(RUN)/answering/finished.json
	rm -rf $(SCENES)/foils-train $(SCENES)/foils-test
	$(BIN)/lxmert lab make foils --split train --count 4000 --seed 77 -o $(SCENES)/foils-train
	$(BIN)/lxmert lab make foils --split test --count 500 --seed 77 -o $(SCENES)/foils-test
	$(BIN)/python -m lxmert.lab.matching_head $(RUN)/answering $(SCENES)/foils-train
	$(BIN)/lxmert evaluate $(RUN)/answering --metric foil \
		--data $(SCENES)/foils-test/foils.jsonl --images $(SCENES)/foils-test/images -o $@

$(RUN)/timing.json: $(RUN)/answering/finished.json $(SCENES)/test/questions.jsonl
	$(BIN)/python benchmarks/ask.py --model $(RUN)/answering \
		--image $(SCENES)/test/images/test-000000.png -o $@

$(RUN)/evaluation.json: $(RUN)/answering/finished.json $(SCENES)/test/questions.jsonl
	$(BIN)/lxmert evaluate $(RUN)/answering --data $(SCENES)/test/questions.jsonl \
		--images $(SCENES)/test/images \
		--training $(SCENES)/train/questions.jsonl -o $@

$(RUN)/compositional-evaluation.json: $(RUN)/answering/finished.json \
		$(SCENES)/compositional/questions.jsonl
	$(BIN)/lxmert evaluate $(RUN)/answering --data $(SCENES)/compositional/questions.jsonl \
		--images $(SCENES)/compositional/images -o $@

$(RUN)/pairs-evaluation.json: $(RUN)/pairs/finished.json $(SCENES)/test/questions.jsonl
	$(BIN)/lxmert evaluate $(RUN)/pairs --data $(SCENES)/test/pairs.jsonl \
		--images $(SCENES)/test/images -o $@

$(RUN)/detector-evaluation.json: $(RUN)/detector/finished.json $(SCENES)/test/questions.jsonl
	$(BIN)/lxmert evaluate $(RUN)/detector --data $(SCENES)/test/objects.json \
		--images $(SCENES)/test/images -o $@

$(RUN)/compositional-detector-evaluation.json: $(RUN)/detector/finished.json \
		$(SCENES)/compositional/questions.jsonl
	$(BIN)/lxmert evaluate $(RUN)/detector --data $(SCENES)/compositional/objects.json \
		--images $(SCENES)/compositional/images -o $@

# Recipes that the recipes of these stages extend.
$(STAGES:%=$(RUN)/%/finished.json): src/lxmert/recipes/lab/scenes-simple.toml src/lxmert/recipes/lab/scenes-answering.toml

$(RUN)/pairs/finished.json: src/lxmert/recipes/lab/scenes-pairs.toml $(RUN)/answering/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/answering/finished.json: src/lxmert/recipes/lab/scenes-answering.toml $(RUN)/steps/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/steps/finished.json: src/lxmert/recipes/lab/scenes-steps.toml $(RUN)/relations/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/relations/finished.json: src/lxmert/recipes/lab/scenes-relations.toml $(RUN)/two-objects/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/two-objects/finished.json: src/lxmert/recipes/lab/scenes-two-objects.toml $(RUN)/places/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/places/finished.json: src/lxmert/recipes/lab/scenes-places.toml $(RUN)/same/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/same/finished.json: src/lxmert/recipes/lab/scenes-same.toml $(RUN)/share/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/share/finished.json: src/lxmert/recipes/lab/scenes-share.toml $(RUN)/simple/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/simple/finished.json: src/lxmert/recipes/lab/scenes-simple.toml $(RUN)/pretrained/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/pretrained/finished.json: src/lxmert/recipes/lab/scenes-pretraining.toml \
		$(RUN)/regions/train/index.safetensors $(RUN)/regions/valid/index.safetensors
	$(TRAIN) $< -o $(@D)

$(RUN)/regions/%/index.safetensors: $(RUN)/detector/finished.json | $(SCENES)/%/questions.jsonl
	[ ! -f $@ ] || rm -r $(@D)  # regions of an older detector
	$(BIN)/lxmert extract $(SCENES)/$*/images --extractor $(RUN)/detector --precision bf16 \
		-o $(@D)

$(RUN)/detector/finished.json: src/lxmert/recipes/lab/scenes-detector.toml \
		$(SCENES)/train/questions.jsonl $(SCENES)/valid/questions.jsonl
	$(TRAIN) $< -o $(@D)

$(SCENES)/%/questions.jsonl: | $(VENV)/installed
	mkdir -p $(SCENES)
	$(BIN)/lxmert lab make $($*) --split $* -o $(@D)

.PRECIOUS: $(SCENES)/%/questions.jsonl $(RUN)/regions/%/index.safetensors

# The paper's ablations, learning curves and the effect of pretraining on image pairs, with the
# scenes and the detector of the bundled model.
REGIONS := $(RUN)/regions/train/index.safetensors $(RUN)/regions/valid/index.safetensors

ablations: $(REGIONS) $(VENV)/installed-explain
	$(ALONE) $(BIN)/lxmert lab sweep ablations -o runs/ablations \
		--jobs 2 --figure docs/ablations.png

learning-curve: $(REGIONS) $(VENV)/installed-explain
	$(ALONE) $(BIN)/lxmert lab sweep learning-curve -o runs/learning-curve \
		--jobs 2 --figure docs/learning-curve.png

transfer: $(REGIONS) $(SCENES)/train/pairs-2000.jsonl
	$(ALONE) $(BIN)/lxmert lab sweep transfer -o runs/transfer --jobs 2

# Complete statements, each with its four pairs.
$(SCENES)/train/pairs-2000.jsonl: $(SCENES)/train/questions.jsonl
	head -n 2000 $(SCENES)/train/pairs.jsonl > $@.partial
	mv $@.partial $@

# The bundled start for custom data: a model and its grid extractor, trained on drawings.
drawings: $(VENV)/installed
	$(ALONE) $(BIN)/lxmert lab drawings train -o runs/drawings
	$(BIN)/python -m lxmert.lab.drawings.bundle runs/drawings

clean:
	rm -rf $(VENV) answer.png examples

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --editable .
	touch $@

# With the dependencies of figures.
$(VENV)/installed-explain: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --editable ".[explain]"
	touch $(VENV)/installed $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --editable ".[dev]"
	touch $(VENV)/installed $@
