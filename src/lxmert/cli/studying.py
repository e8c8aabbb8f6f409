"""The command `lxmert study`."""

from pathlib import Path
from typing import Annotated

import typer

from lxmert.cli.options import Device, ImageFolder, Json, RegionStores, check_source
from lxmert.cli.outputs import check_output_folder
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
        int, typer.Option(help="Number of questions whose Shapley values are computed.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Study a model: what it can answer, whether it looks at the image, whether it is sure.

    Writes study.html and study.json: accuracy by question type, answers after the image or the
    question is exchanged or damaged, the share of each modality in the answers (Shapley values),
    calibration and risk-coverage, all with 95 % intervals.
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
