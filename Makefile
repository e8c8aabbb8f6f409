# Every target prepares what it needs: a virtual environment in .venv, this package, its tools.
# The stamps under .venv make that happen once, and again when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: ask test lint default-model clean

# Answer a question about the example picture, and draw what the answer rests on.
ask: $(VENV)/installed
	$(BIN)/lxmert ask examples/scene.png "What color is the ball?" --figure answer.png

# Everything that runs offline on a CPU; see CONTRIBUTING.md for the other tiers.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Make the model that `ask` uses, from nothing, in stages; each resumes where it was interrupted.
RUN := runs/default
# One thread for each of two processes; memory is kept, as giving it back costs a quarter of the time.
TRAIN := OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 \
	$(BIN)/torchrun --standalone --nproc-per-node 2 -m lxmert train
PICTURES_train := 12000
PICTURES_valid := 500
PICTURES_test := 1000
TEST := --data $(RUN)/scenes/test/questions.jsonl --images $(RUN)/scenes/test/images

default-model: src/lxmert/default/README.md

src/lxmert/default/README.md: $(RUN)/evaluation.json $(RUN)/eyes-evaluation.json $(RUN)/timing.json
	$(BIN)/python -m lxmert.workflows.default_model $(RUN)

$(RUN)/timing.json: $(RUN)/answering/finished.json $(RUN)/scenes/test/questions.jsonl
	$(BIN)/python benchmarks/ask.py --model $(RUN)/answering \
		--image $(RUN)/scenes/test/images/test-000000.png -o $@

$(RUN)/evaluation.json: $(RUN)/answering/finished.json $(RUN)/scenes/test/questions.jsonl
	$(BIN)/lxmert evaluate $(RUN)/answering $(TEST) --limit 2000 \
		--training $(RUN)/scenes/train/questions.jsonl -o $@

$(RUN)/eyes-evaluation.json: $(RUN)/eyes/finished.json $(RUN)/scenes/test/questions.jsonl
	$(BIN)/lxmert evaluate $(RUN)/eyes --data $(RUN)/scenes/test/objects.json \
		--images $(RUN)/scenes/test/images -o $@

$(RUN)/answering/finished.json: recipes/scenes-answering.toml $(RUN)/pretrained/finished.json
	$(TRAIN) $< -o $(@D)

$(RUN)/pretrained/finished.json: recipes/scenes-pretraining.toml \
		$(RUN)/regions/train/header.json $(RUN)/regions/valid/header.json
	$(TRAIN) $< -o $(@D)

$(RUN)/regions/%/header.json: $(RUN)/eyes/finished.json | $(RUN)/scenes/%/questions.jsonl
	[ ! -f $@ ] || rm -r $(@D)  # what older eyes saw
	$(BIN)/lxmert extract $(RUN)/scenes/$*/images --eyes $(RUN)/eyes --precision bf16 \
		-o $(@D)

$(RUN)/eyes/finished.json: recipes/scenes-detector.toml \
		$(RUN)/scenes/train/questions.jsonl $(RUN)/scenes/valid/questions.jsonl
	$(TRAIN) $< -o $(@D)

$(RUN)/scenes/%/questions.jsonl: | $(VENV)/installed
	mkdir -p $(RUN)/scenes
	$(BIN)/lxmert scenes make qa captions --split $* --count $(PICTURES_$*) --rounds 4 -o $(@D)

.PRECIOUS: $(RUN)/scenes/%/questions.jsonl $(RUN)/regions/%/header.json

clean:
	rm -rf $(VENV) answer.png

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --editable ".[dev]"
	touch $(VENV)/installed $@
