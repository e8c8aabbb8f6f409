"""The command `export`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lxmert.cli.options import ModelArgument, OutputFolder
from lxmert.cli.outputs import check_output_folder
from lxmert.terminal import say


def export(
    model: ModelArgument,
    output: OutputFolder,
    runtime: Annotated[
        Literal["onnxruntime", "openvino", "torch", "web"],
        typer.Option(
            help="Library that will run the model; web: onnxruntime, with a page that answers in "
            "the browser; torch: a model folder with weights of that precision."
        ),
    ] = "onnxruntime",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"],
        typer.Option(
            help="Numeric precision; bf16 needs torch, or openvino and a processor that has it, "
            "int8 needs --calibrate."
        ),
    ] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Image folder or region store to compare with, and to measure the ranges of int8 "
            "with. Default: the example image."
        ),
    ] = None,
) -> None:
    """Export a model with its region extractor for a fast runtime.

    Use the folder like any model: lxmert ask IMAGE QUESTION --model FOLDER. Only the folders of
    --runtime torch need PyTorch. Differences from the model are measured, and written into the
    README.md of the folder. With --runtime web, any static web server can serve the folder:
    python -m http.server --directory FOLDER.
    """
    from lxmert.workflows.export_comparison import TOLERANCES
    from lxmert.workflows.exporting import export_folder
    from lxmert.workflows.torch_export import export_for_torch
    from lxmert.workflows.web_page import check_library, write_page

    check_output_folder(output, "-o", model, calibrate)
    common: Any = {
        "precision": precision,
        "calibrate": calibrate,
        "report": lambda step: say(f"{step} ...", error=True),
    }
    if runtime == "torch":
        differences = export_for_torch(model, output, **common)
    elif runtime == "web":
        check_library()
        manifest = export_folder(model, output, runtime="onnxruntime", finish=write_page, **common)
        differences = dict(manifest.differences)
    else:
        differences = dict(export_folder(model, output, runtime=runtime, **common).differences)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 1e6
    say(f"{output}: {size:.1f} MB for {runtime} in {precision}")
    for name, value in differences.items():
        say(f"  {name}: {value:g} (at most {TOLERANCES[precision][name]:g})")
