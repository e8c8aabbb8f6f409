"""Runs exported graphs in ONNX Runtime or OpenVINO; needs no PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

RuntimeName = Literal["onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
"""int8: the graphs contain quantized layers, and the others compute in fp32."""

Array = npt.NDArray[Any]

Graph = Callable[[Mapping[str, Array]], list[Array]]
"""A graph in memory: inputs by name to outputs in the order of the file."""


def open_graph(
    path: Path, runtime: RuntimeName, *, precision: Precision = "fp32", threads: int | None = None
) -> Graph:
    """Load an ONNX file.

    Args:
        path: the file.
        runtime: name of the library.
        precision: numeric precision to compute with; the graph itself tells which layers are int8.
        threads: number of threads; None: as many as there are cores.

    Raises:
        ModuleNotFoundError: if the library is not installed.
        ValueError: if the file is damaged, or this processor lacks the precision.
    """
    if find_spec(runtime) is None:
        raise ModuleNotFoundError(
            f"the model was exported for {runtime}, which is not installed: "
            f"pip install lxmert[{runtime}]"
        )
    opener = _open_onnxruntime if runtime == "onnxruntime" else _open_openvino
    return opener(path, precision, threads)


def supports(runtime: RuntimeName, precision: Precision) -> bool:
    """Return whether an installed library computes with a precision on this processor."""
    if precision != "bf16":
        return True
    if runtime == "onnxruntime":
        return False
    import openvino  # type: ignore[import-untyped]

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _open_onnxruntime(path: Path, precision: Precision, threads: int | None) -> Graph:
    import onnxruntime  # type: ignore[import-untyped]

    if precision == "bf16":
        raise ValueError("onnxruntime does not compute bf16 on a CPU: use --runtime openvino")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the library has many error types without a common base
        raise ValueError(
            f"{path} cannot be read by onnxruntime ({error}): export it again"
        ) from error
    return lambda inputs: cast(list[Array], session.run(None, dict(inputs)))


def _open_openvino(path: Path, precision: Precision, threads: int | None) -> Graph:
    import openvino

    if not supports("openvino", precision):
        raise ValueError("this processor does not compute bf16: export with --precision fp32")
    hint = "bf16" if precision == "bf16" else "f32"
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read by openvino ({error}): export it again") from error
    names = [port.any_name for port in compiled.inputs]

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        results = compiled([np.ascontiguousarray(inputs[name]) for name in names])
        return [np.array(results[port]) for port in compiled.outputs]

    return run


def installed() -> Sequence[RuntimeName]:
    """Return the names of the runtimes that are installed."""
    names: tuple[RuntimeName, ...] = ("onnxruntime", "openvino")
    return [name for name in names if find_spec(name) is not None]
