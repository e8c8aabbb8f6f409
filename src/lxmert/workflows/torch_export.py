"""Writes a copy of a model with its region extractor that PyTorch computes in another precision."""

from pathlib import Path

import torch

from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.files import atomic_path, check_absent, read_json_object
from lxmert.model.checkpoints import read_folder
from lxmert.model.loading import load_heads
from lxmert.model.runtime import TorchRuntime
from lxmert.processing import LxmertProcessor
from lxmert.regions.extract import DetectorExtractor
from lxmert.runtimes import Precision
from lxmert.workflows.compression import CONFIG, copy_model
from lxmert.workflows.export_comparison import check_tolerances, compare_parts
from lxmert.workflows.export_source import Report, read_source
from lxmert.workflows.exporting import write_card

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def export_for_torch(
    model: str | Path | None,
    output: Path,
    *,
    precision: Precision,
    calibrate: Path | None = None,
    report: Report = lambda step: None,  # noqa: ARG005
) -> dict[str, float]:
    """Write a model folder with weights in a precision, and compare it with the model.

    It is an ordinary model folder, which explains its answers and computes on any device. In bf16,
    a detector computes in bf16, too; a grid stays in fp32.

    Args:
        model: folder or hub name; None means the bundled model.
        output: folder to write; it must not exist.
        precision: numeric precision.
        calibrate: image folder, or region store of the model's extractor, to compare with; None:
            the example image.
        report: called before each step.

    Returns:
        The differences; see `lxmert.workflows.exporting.MEANINGS`.

    Raises:
        FileExistsError: if the output exists.
        ValueError: if PyTorch does not compute the precision, or as for `export_folder`.
    """
    check_absent(output)
    if precision not in _DTYPES:
        raise ValueError(
            f"torch does not compute {precision}: use --runtime onnxruntime or openvino, or "
            "another --precision"
        )
    source, calibration = read_source(model, calibrate, report)
    dtype = _DTYPES[precision]
    weights = {
        name: values.to(dtype) if values.is_floating_point() else values
        for name, values in read_folder(source.folder).items()
    }
    config = read_json_object(source.folder / CONFIG) | {"dtype": str(dtype).removeprefix("torch.")}
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(output) as partial:
        report("copy")
        copy_model(source.folder, partial, weights, config)
        if precision == "bf16" and isinstance(source.extractor, DetectorExtractor):
            PreprocessorConfig.load(partial).replace(precision="bf16").save(partial)
        report("comparison")
        processor = LxmertProcessor.from_folder(partial)
        heads = load_heads(partial)
        scoring = heads.answering if source.heads.answering is not None else heads.matching
        assert scoring is not None
        differences = compare_parts(
            TorchRuntime(scoring),
            processor.reader.backend,
            lambda: processor.extractor,
            calibration,
        )
        check_tolerances(differences, precision)
        write_card(partial, source, "torch", precision, differences, calibration)
    return differences
