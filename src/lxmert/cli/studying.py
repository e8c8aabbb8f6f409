"""The commands that study a model: `study`, `states` and `probe`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import (
    Device,
    ImageFolder,
    Json,
    RegionStores,
    check_source,
    split_names,
)
from lxmert.cli.outputs import check_output, check_output_folder
from lxmert.cli.score_tables import show_probe
from lxmert.terminal import say, show_progress


def study(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or hub name.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions with answers.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")],
    images: ImageFolder = None,
    regions: RegionStores = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of questions, drawn at random. Default: all.")
    ] = None,
    explained: Annotated[
        int, typer.Option(help="Number of questions whose answers are explained.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Study a model: what it can answer, whether it looks at the image, whether it is sure.

    Writes study.html and study.json: accuracy by question type, answers after the image or the
    question is exchanged or damaged, the share of each modality in the answers (Shapley values),
    the faithfulness of explanations, calibration and risk-coverage, all with 95 % intervals.
    """
    if limit is not None and limit < 2:
        raise ValueError(f"--limit is {limit}: expected at least 2")
    if explained < 0:
        raise ValueError(f"--explained is {explained}: expected at least 0")
    check_source(images, regions)
    check_output_folder(output, "-o")
    from lxmert.devices import choose_device
    from lxmert.files import to_json
    from lxmert.study.run import PAGE, study_model

    with show_progress("answers") as progress:
        report = study_model(
            model,
            data,
            output,
            images=images,
            stores=tuple(regions or ()),
            limit=limit,
            explained=explained,
            seed=seed,
            device=choose_device(device),
            progress=progress,
        )
    if as_json:
        print(to_json(report))
        return
    for line in _summary(report):
        say(line)
    say(f"{output / PAGE}: open it in a browser")


def _summary(report: dict) -> list[str]:  # type: ignore[type-arg]
    """Return one line for each part of the study."""
    low, high = report["intervals"]["overall"]
    swapped = report["robustness"]["image exchanged"]
    confidence = report["confidence"]
    lines = [
        f"accuracy: {report['accuracy']['overall']:.1%} ({low * 100:.1f} to {high * 100:.1f}) on "
        f"{report['count']:,} questions",
        f"with another image: {swapped['accuracy']:.1%} accurate, {swapped['same_answer']:.1%} of "
        "the answers stay the same",
        f"calibration error: {confidence['calibration_error'] * 100:.1f} points, "
        f"{confidence['calibrated_error'] * 100:.1f} at temperature "
        f"{confidence['temperature']:.2f}",
    ]
    if report["modality"] is not None:
        share = report["modality"]["text_share"]
        lines.append(
            f"share of the question in the answers: {share['mean']:.1%} "
            f"({share['low'] * 100:.1f} to {share['high'] * 100:.1f})"
        )
    return lines


def states(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or hub name.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions or captions.")],
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
    limit: Annotated[
        int | None, typer.Option(help="Number of examples, drawn at random. Default: all.")
    ] = None,
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
    data: Annotated[Path, typer.Option(help="JSONL file that the states were made from.")],
    label: Annotated[
        str,
        typer.Option(help="Key of its lines to predict: answer, question_type, or your own."),
    ] = "answer",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the results as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of the control task.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a linear probe on each layer, beside a control task of random labels.

    Half of the images train, the other half tests; intervals are 95 %, resampling images.
    """
    if output is not None:
        check_output(output, "-o", states, data)
    from lxmert.files import to_json, write_text
    from lxmert.study.probe import probe_states

    with show_progress("layers") as progress:
        report = probe_states(states, data, label, seed=seed, progress=progress)
    if output is not None:
        write_text(output, to_json(report, indent=1) + "\n")
    if as_json:
        print(to_json(report))
    else:
        show_probe(report)
