"""Quantize one model in one way, in the environment of the tool that does it.

Each way runs in a process of its own, by the interpreter of its tool's environment, which need not
have qbench. Nothing is imported at the top that any of these environments could lack.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, Any]


class Samples:
    """Preprocessed samples, one .npz file each, read one at a time.

    It can be read as a sequence, and as ONNX Runtime's and ModelOpt's data readers are.
    """

    def __init__(self, folder: Path, batches: dict[str, int]) -> None:
        """Take the files of `folder`; `batches` says how often to repeat each input's sample."""
        self.folder = folder
        self._files = sorted(folder.glob("*.npz"))
        self._batches = batches
        self._reading: Iterator[Feeds] = iter(self)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Feeds]:
        return map(self._load, self._files)

    def get_first(self) -> Feeds:
        return self._load(self._files[0])

    def get_next(self) -> Feeds | None:
        return next(self._reading, None)

    def rewind(self) -> None:
        self._reading = iter(self)

    def _load(self, file: Path) -> Feeds:
        with np.load(file) as arrays:
            return {name: np.repeat(a, self._batches[name], axis=0) for name, a in arrays.items()}


def qbench(
    model: Path, samples: Samples, output: Path, *, target: str, effort: str = "balanced"
) -> dict[str, float]:
    """Quantize by qbench without other options; return the seconds of both steps."""
    from qbench import calibrate, quantize
    from qbench.quantization.int8 import Int8Options

    started = time.perf_counter()
    table = calibrate(model, samples.folder)
    calibrated = time.perf_counter()
    options = Int8Options(effort=effort)
    quantize(model, target=target, table=table, options=options, output=output)
    return {"calibrate": calibrated - started, "quantize": time.perf_counter() - calibrated}


def ort_default(model: Path, samples: Samples, output: Path) -> None:
    """Quantize by ONNX Runtime's `quantize_static` without options."""
    from onnxruntime.quantization import quantize_static

    quantize_static(model, output, samples)


def ort_cpu(model: Path, samples: Samples, output: Path) -> None:
    """Quantize as ONNX Runtime advises for x86 CPUs: uint8 activations, 7-bit weights."""
    from onnxruntime.quantization import QuantType, quantize_static

    options: dict[str, Any] = {"activation_type": QuantType.QUInt8, "reduce_range": True}
    quantize_static(preprocessed(model, output), output, samples, per_channel=True, **options)


def ort_tensorrt(model: Path, samples: Samples, output: Path) -> None:
    """Quantize with the options that make TensorRT accept what ONNX Runtime writes."""
    from onnxruntime.quantization import quantize_static

    extra = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": True,
        "QuantizeBias": False,
        "QDQKeepRemovableActivations": True,
    }
    quantize_static(
        preprocessed(model, output), output, samples, per_channel=True, extra_options=extra
    )


def preprocessed(model: Path, output: Path) -> Path:
    """Return a copy of `model` after the preparation that ONNX Runtime recommends."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = output.with_suffix(".prepared.onnx")
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    return prepared


def nncf(model: Path, samples: Samples, output: Path, *, preset: str) -> None:
    """Quantize by NNCF with one of its presets; `performance` is its default."""
    import nncf as tool
    import onnx

    quantized = tool.quantize(
        onnx.load(model),
        tool.Dataset(samples),
        subset_size=len(samples),
        preset=tool.QuantizationPreset(preset),
    )
    onnx.save(quantized, output)


def modelopt(model: Path, samples: Samples, output: Path) -> None:
    """Quantize by ModelOpt as it is, but for FP16, which would be another comparison.

    It gets a copy, since it rewrites the model that it is given.
    """
    import onnx
    from modelopt.onnx.quantization import quantize

    copy = output.with_suffix(".source.onnx")
    onnx.save(onnx.load(model), copy)
    quantize(
        str(copy),
        calibration_data_reader=samples,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(output),
    )


WAYS: dict[str, Callable[[Path, Samples, Path], dict[str, float] | None]] = {
    "qbench tensorrt": partial(qbench, target="tensorrt"),
    "qbench cpu": partial(qbench, target="cpu"),
    "qbench tensorrt, fast": partial(qbench, target="tensorrt", effort="fast"),
    "qbench cpu, fast": partial(qbench, target="cpu", effort="fast"),
    "ort default": ort_default,
    "ort cpu": ort_cpu,
    "ort tensorrt": ort_tensorrt,
    "nncf performance": partial(nncf, preset="performance"),
    "nncf mixed": partial(nncf, preset="mixed"),
    "modelopt default": modelopt,
}
"""Ways to quantize; the first word names the tool, the second the settings."""


def main() -> None:
    """Infer all samples with the float model, quantize it, and write what that cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("way", choices=WAYS)
    for name in ("model", "samples", "output", "report"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    before, batches = infer(args.model, args.samples)
    started = time.perf_counter()
    steps = WAYS[args.way](args.model, Samples(args.samples, batches), args.output)
    seconds = time.perf_counter() - started
    after, _ = infer(args.model, args.samples)
    report = {
        "seconds": seconds,
        "steps": steps or {},
        "plain_seconds": (before + after) / 2,
        "peak_rss_bytes": peak_rss_bytes(),
        "versions": versions(),
    }
    args.report.write_text(json.dumps(report), encoding="utf-8")


def infer(model: Path, folder: Path) -> tuple[float, dict[str, int]]:
    """Return the seconds inside ONNX Runtime for all samples, and the batch that inputs fix."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    firsts = {value.name: value.shape[0] for value in session.get_inputs()}
    batches = {name: first if isinstance(first, int) else 1 for name, first in firsts.items()}
    samples = Samples(folder, batches)
    session.run(None, samples.get_first())
    seconds = 0.0
    for feeds in samples:
        started = time.perf_counter()
        session.run(None, feeds)
        seconds += time.perf_counter() - started
    return seconds, batches


def peak_rss_bytes() -> int:
    """Return the most resident memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # `resource` would start at the peak of the process that forked this one
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    import resource

    reported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return reported if sys.platform == "darwin" else reported << 10


def versions() -> dict[str, str]:
    """Return the versions of the packages of this environment that matter."""
    known = ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "nncf", "nvidia-modelopt", "torch")
    installed = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return {name: installed[name] for name in known if name in installed}


if __name__ == "__main__":
    main()
