"""The commands that study a model: `study`, `states` and `probe`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import (
    Device,
    ImageFolder,
    Json,
    Limit,
    ModelArgument,
    OutputReport,
    Questions,
    RegionStores,
    Samples,
    check_samples,
    check_source,
    split_names,
)
from lxmert.cli.outputs import check_output, check_output_folder
from lxmert.cli.reports import print_report, write_report
from lxmert.cli.score_tables import show_probe
from lxmert.terminal import say, show_progress, show_steps


def study(
    model: ModelArgument,
    data: Questions,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")],
    images: ImageFolder = None,
    regions: RegionStores = None,
    foils: Annotated[
        Path | None,
        typer.Option(help="File of captions and foils; needs a model with a matching head."),
    ] = None,
    limit: Limit = None,
    explained: Annotated[
        int, typer.Option(help="Number of questions whose answers are explained.")
    ] = 50,
    samples: Samples = 2000,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Study a model: accuracy, use of image and question, explanations, confidence.

    Writes study.html and study.json: accuracy by question type, captions against foils, answers
    after the image or the question is exchanged or damaged, the share of each modality in the
    answers (Shapley values), the faithfulness of explanations, calibration and risk-coverage, all
    with 95% intervals.

    Explanations take longest: about a second per question for the bundled model, minutes for a
    model of the published size. Rerun to resume after an interruption.
    """
    if limit is not None and limit < 2:
        raise ValueError(f"--limit is {limit}: expected at least 2")
    if explained < 0:
        raise ValueError(f"--explained is {explained}: expected at least 0")
    check_samples(samples)
    check_source(images, regions)
    check_output_folder(output, "-o", data, foils)
    from lxmert.devices import choose_device
    from lxmert.study.run import PAGE, study_model
    from lxmert.study.summary import summarize

    with show_steps("images", "answers", "explanations") as (reading, progress, explaining):
        report = study_model(
            model,
            data,
            output,
            images=images,
            stores=tuple(regions or ()),
            foils=foils,
            limit=limit,
            explained=explained,
            samples=samples,
            seed=seed,
            device=choose_device(device),
            reading=reading,
            progress=progress,
            explaining=explaining,
        )
    page = f"{output / PAGE}: open it in a browser"
    print_report(report, lambda found: say("\n".join([*summarize(found), page])), as_json=as_json)


def states(
    model: ModelArgument,
    data: Annotated[Path, typer.Option(help="Questions or captions: JSONL, CSV or JSON array.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Safetensors file to write.")],
    images: ImageFolder = None,
    regions: RegionStores = None,
    of: Annotated[
        str,
        typer.Option(
            help="pooled (means of each example, and the pooler), words or regions (all of them)."
        ),
    ] = "pooled",
    layers: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated layers, such as language.9,cross.5.vision,pooler. Default: all."
        ),
    ] = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    device: Device = None,
) -> None:
    """Save the states of a model's layers for a data set, for probes or your own analyses."""
    if of not in ("pooled", "words", "regions"):
        raise ValueError(f"--of is {of!r}: expected pooled, words or regions")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is {limit}: expected at least 1")
    check_source(images, regions)
    check_output(output, "-o", data)
    from lxmert.devices import choose_device
    from lxmert.study.states import write_states

    with show_progress("examples") as progress:
        shapes = write_states(
            model,
            data,
            output,
            of=of,  # type: ignore[arg-type]
            layers=split_names(layers),
            images=images,
            stores=tuple(regions or ()),
            limit=limit,
            seed=seed,
            device=choose_device(device),
            progress=progress,
        )
    for name, shape in shapes.items():
        say(f"{name:18} {' x '.join(f'{size:,}' for size in shape)}")
    say(str(output))


def probe(
    states: Annotated[
        Path, typer.Argument(metavar="STATES", help="File of pooled states (`lxmert states`).")
    ],
    data: Annotated[Path, typer.Option(help="File that the states were made from.")],
    label: Annotated[
        str,
        typer.Option(help="Key of its lines to predict: answer, question_type, or your own."),
    ] = "answer",
    output: OutputReport = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of the control task.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a linear probe on each layer, and another on random labels as a control task.

    The probe is trained on half of the images and tested on the other half. Images are resampled
    for the 95% intervals.
    """
    if output is not None:
        check_output(output, "-o", states, data)
    from lxmert.study.probe import probe_states

    with show_progress("layers") as progress:
        report = probe_states(states, data, label, seed=seed, progress=progress)
    write_report(report, output)
    print_report(report, show_probe, as_json=as_json)
