"""Writes the bundled start for custom data from a run of `lxmert lab drawings train`.

The last step of `make drawings` is `python -m lxmert.lab.drawings.bundle RUN`.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

from lxmert.data.preprocessing import EXTRACTOR_FOLDER, PreprocessorConfig
from lxmert.data.tokenizer import load_tokenizer
from lxmert.files import write_text
from lxmert.hub import DRAWINGS
from lxmert.lab.drawings.questions import QUESTION_TYPES
from lxmert.lab.drawings.shapes import COLORS, SHAPES
from lxmert.lab.drawings.task import DrawingsData, DrawingsSettings, DrawingsTask
from lxmert.model.answers import answers_of
from lxmert.model.loading import load_initial
from lxmert.regions.grid import GridExtractor
from lxmert.tasks.metrics import OVERALL
from lxmert.tasks.text_training import save_model
from lxmert.tasks.texts import ModelSettings
from lxmert.templates import fill

_TEST_SEED, _TEST_GROUPS = 2121, 50

_CARD = Path(__file__).with_name("card.md")


def bundle(run: Path, folder: Path = DRAWINGS) -> None:
    """Copy a trained model with float16 weights, and write its card.

    Args:
        run: folder of the run.
        folder: where to write; the default is the folder in the package.
    """
    model = load_initial(run, "answering").model
    model.half()  # type: ignore[no-untyped-call]
    extractor = GridExtractor.from_pretrained(run / EXTRACTOR_FOLDER)
    save_model(folder, model, load_tokenizer(run), PreprocessorConfig.load(run), extractor)
    write_text(folder / "README.md", _write_card(folder))


def _write_card(folder: Path) -> str:
    """Return the card; the accuracies are measured here."""
    model = load_initial(folder, "answering").model
    extractor = GridExtractor.from_pretrained(folder / EXTRACTOR_FOLDER).network
    task = DrawingsTask(
        DrawingsSettings(
            data=DrawingsData(valid_groups=_TEST_GROUPS), model=ModelSettings(init_from=str(folder))
        ),
        seed=_TEST_SEED,
    )
    task.model.eval()
    return fill(
        _CARD,
        colors=COLORS,
        shapes=SHAPES,
        words=len(load_tokenizer(folder)),
        answers=len(answers_of(model.config) or ()),
        parameters=model.num_parameters() / 1e6,
        network=sum(weight.numel() for weight in extractor.parameters()) / 1e6,
        question_types=len(QUESTION_TYPES),
        questions=sum(len(group.asked) for group in task.validation),
        drawings=sum(len(group.pixels) for group in task.validation),
        scores=task.evaluate(device="cpu"),
        majorities=_majorities(task),
    )


def _majorities(task: DrawingsTask) -> dict[str, float]:
    """Return the share of the most frequent answer, overall and of each kind of question."""
    by_type: dict[str, list[str]] = defaultdict(list)
    for group in task.validation:
        for asked in group.asked:
            by_type[asked.question_type].append(asked.answer)
    right = {n: max(Counter(by_type[n]).values()) for n in QUESTION_TYPES if n in by_type}
    total = sum(map(len, by_type.values()))
    shares = {name: number / len(by_type[name]) for name, number in right.items()}
    return {OVERALL: sum(right.values()) / total, **shares}


if __name__ == "__main__":
    bundle(Path(sys.argv[1]))
