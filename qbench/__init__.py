"""qbench: quantize ONNX vision models and build TensorRT engines that can be trusted.

The calls of the main job are loaded on first use, so that `import qbench` stays light::

    table = qbench.calibrate("model.onnx", "imgs/", recipe="imagenet")
    qbench.quantize("model.onnx", target="cpu", table=table, output="int8.onnx")
    engine = qbench.build_engine("model.onnx", precision="int8", table=table)
    layers = qbench.compare_layers("model.onnx", "int8.onnx", "imgs/")
    result = qbench.benchmark(["model.onnx"], precisions=["fp32", "int8"], table=table)
    qbench.write_report(result, "report.html")

`draw_chart` draws one chart of a result or of compared layers, and `tune` finds the fewest float
nodes that meet an accuracy budget. What goes wrong is an error of `qbench.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qbench.benchmarking.benchmark import benchmark as benchmark
    from qbench.calibration.calibrate import calibrate as calibrate
    from qbench.engines.build import build_engine as build_engine
    from qbench.evaluation.compare_layers import compare_layers as compare_layers
    from qbench.quantization.quantize import quantize as quantize
    from qbench.report.draw import draw_chart as draw_chart
    from qbench.report.write import write_report as write_report
    from qbench.tuning.tune import tune as tune

    __version__: str

__all__ = [
    "benchmark",
    "build_engine",
    "calibrate",
    "compare_layers",
    "draw_chart",
    "quantize",
    "tune",
    "write_report",
]

_HOMES = {
    "benchmark": "qbench.benchmarking.benchmark",
    "build_engine": "qbench.engines.build",
    "calibrate": "qbench.calibration.calibrate",
    "compare_layers": "qbench.evaluation.compare_layers",
    "draw_chart": "qbench.report.draw",
    "quantize": "qbench.quantization.quantize",
    "tune": "qbench.tuning.tune",
    "write_report": "qbench.report.write",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'qbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("qbench-onnx")
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
