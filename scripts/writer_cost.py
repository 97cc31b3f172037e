"""What writing a large quantized model costs over copying its weights once, in time and in memory.

A model of the asked size, most of it weights of MatMul, or of Gemm with biases, which quantization
corrects, lies in external data in a temporary folder and is calibrated once. Then, in turn and each
in a process of its own, the weights are copied to another file through numpy, and `qbench.quantize`
writes the INT8 model. Printed as JSON: the median seconds of both sides and the ratio of each pair,
the quantizer's peak resident memory over the bytes of the weights, and where the weights of the
quantized model lie.

Example:
    python scripts/writer_cost.py --megabytes 500 --effort fast --pairs 5
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qbench.benchmarking.environment import peak_rss_bytes
from qbench.calibration.calibrate import calibrate
from qbench.calibration.table import load_table
from qbench.model.graph import add_initializer
from qbench.model.load import size_on_disk
from qbench.quantization.int8 import EFFORTS, Int8Options
from qbench.quantization.quantize import quantize

_WIDTH = 2048
_CHANNELS = 256
_SAMPLES = 16


@dataclass(frozen=True)
class Cost:
    """Seconds of one side, and the peak memory of its process."""

    seconds: float
    peak_rss_bytes: int | None


def main() -> None:
    """Make the model, measure both sides in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--effort", choices=EFFORTS, default="fast")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--operator", choices=("MatMul", "Gemm"), default="MatMul")
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qbench-") as name:
        folder = Path(name)
        apart(prepare_folder, folder, args.megabytes, args.operator)
        pairs = [
            (apart(copy_weights, folder), apart(write_int8, folder, args.target, args.effort))
            for _ in range(args.pairs)
        ]
        size = size_on_disk(folder / "model.onnx")
        external = sorted(path.name for path in folder.glob("int8.onnx*"))
    ratios = [written.seconds / copied.seconds for copied, written in pairs]
    peaks = [written.peak_rss_bytes for _, written in pairs if written.peak_rss_bytes]
    document = {
        "model_bytes": size,
        "operator": args.operator,
        "effort": args.effort,
        "copy_seconds": float(np.median([copied.seconds for copied, _ in pairs])),
        "write_seconds": float(np.median([written.seconds for _, written in pairs])),
        "ratios": ratios,
        "median_ratio": float(np.median(ratios)),
        "peak_over_size": max(peaks) / size if peaks else None,
        "files": external,
    }
    print(json.dumps(document, indent=2))


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """Return what `function` returns in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def prepare_folder(folder: Path, megabytes: int, operator: str) -> None:
    """Write the model, samples and the calibration table."""
    ir.save(
        large_model(megabytes << 20, operator),
        folder / "model.onnx",
        external_data="model.onnx.data",
    )
    samples = np.random.default_rng(0).normal(size=(_SAMPLES, _CHANNELS, 1, _WIDTH // _CHANNELS))
    np.savez(folder / "samples.npz", x=samples.astype(np.float32))
    calibrate(folder / "model.onnx", folder / "samples.npz").save(folder / "table.json")


def large_model(size: int, operator: str) -> ir.Model:
    """Return a chain of two convolutions and as many MatMul or Gemm as make up `size` bytes."""
    x = ir.val("x", ir.DataType.FLOAT, [1, _CHANNELS, 1, _WIDTH // _CHANNELS])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 17}, name="large")
    random = np.random.default_rng(0)

    def step(op: str, name: str, value: ir.Value, *shape: int) -> ir.Value:
        array = random.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        inputs = [value, add_initializer(graph, f"{name}_weight", array)]
        if op == "Gemm":
            inputs.append(add_initializer(graph, f"{name}_bias", np.zeros(shape[1], np.float32)))
        node = ir.node(op, inputs, name=name)
        relu = ir.node("Relu", [node.outputs[0]], name=f"{name}_relu")
        graph.extend([node, relu])
        return relu.outputs[0]

    value = step("Conv", "conv0", x, _CHANNELS, _CHANNELS, 1, 1)
    value = step("Conv", "conv1", value, _CHANNELS, _CHANNELS, 1, 1)
    flat = ir.node("Flatten", [value], name="flat")
    graph.append(flat)
    value = flat.outputs[0]
    for number in range(size // (4 * _WIDTH**2)):
        value = step(operator, f"linear{number}", value, _WIDTH, _WIDTH)
    value.name, value.type, value.shape = "y", x.type, ir.Shape([1, _WIDTH])
    graph.outputs.append(value)
    return ir.Model(graph, ir_version=8)


def copy_weights(folder: Path) -> Cost:
    """Read every weight into a numpy array and write it to another file."""
    model = ir.load(folder / "model.onnx")
    os.sync()
    started = time.perf_counter()
    with (folder / "copy.data").open("wb") as file:
        for value in model.graph.initializers.values():
            assert value.const_value is not None
            np.array(value.const_value.numpy()).tofile(file)
    return Cost(time.perf_counter() - started, peak_rss_bytes())


def write_int8(folder: Path, target: str, effort: str) -> Cost:
    """Load the model, quantize it and write the result."""
    table = load_table(folder / "table.json")
    os.sync()
    started = time.perf_counter()
    quantize(
        folder / "model.onnx",
        target=target,
        table=table,
        output=folder / "int8.onnx",
        options=Int8Options(effort=effort),
    )
    return Cost(time.perf_counter() - started, peak_rss_bytes())


if __name__ == "__main__":
    main()
