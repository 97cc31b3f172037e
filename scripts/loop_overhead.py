"""Measure what our bound call costs over the runtime's own call, in one interleaved run.

An ONNX model is timed through `Runner.bind` against ONNX Runtime's bare `run_with_iobinding`; a
TensorRT engine, which needs a GPU, against a bare `execute_async_v3` and the wait for its stream.

Example:
    python scripts/loop_overhead.py model.onnx --mode strict
    python scripts/loop_overhead.py engines/model.engine
"""

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.timing.schedule import Measurement, measure
from qbench.benchmarking.timing.settings import MODES
from qbench.engines.manifest import read_manifest
from qbench.model.spec import TensorSpec
from qbench.runtimes.cuda.choose import BACKENDS, DEFAULT_BACKEND
from qbench.runtimes.ort.runner import OrtRunner
from qbench.runtimes.tensorrt.flavour import flavour_named
from qbench.runtimes.tensorrt.runner import TensorRtRunner

DEMO_MODEL = Path(__file__).parents[1] / "qbench/demo/classifier.onnx"

Call = Callable[[], None]


def main() -> None:
    """Measure and print the ratio and the overhead as JSON."""
    args = parse_args()
    with closing(open_runner(args)) as runner:
        measurement = measure(calls(runner, args.size), MODES[args.mode])
    print(json.dumps({"model": args.model.name, **report(measurement)}, indent=2))


def parse_args() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, nargs="?", default=DEMO_MODEL)
    parser.add_argument("--mode", choices=MODES, default="normal")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="for dynamic dimensions but the batch")
    parser.add_argument("--cuda-backend", choices=BACKENDS, default=DEFAULT_BACKEND)
    return parser.parse_args()


def open_runner(args: argparse.Namespace) -> OrtRunner | TensorRtRunner:
    """Load the model, or the engine by the TensorRT of its manifest."""
    if args.model.suffix != ".engine":
        return OrtRunner(args.model, threads=args.threads)
    flavour = flavour_named(read_manifest(args.model).flavour)
    return TensorRtRunner(args.model, flavour, cuda_backend=args.cuda_backend)


def calls(runner: OrtRunner | TensorRtRunner, size: int) -> tuple[Call, Call]:
    """Return the runtime's bare call and ours, of the same session or engine."""
    if isinstance(runner, TensorRtRunner):
        feeds = random_feeds(runner.typical_inputs(), size)
        return runner.bind_bare(feeds), runner.bind(feeds)
    feeds = random_feeds(runner.inputs, size)
    run, binding = runner.bind_bare(feeds)
    return partial(run, binding), runner.bind(feeds)


def random_feeds(specs: tuple[TensorSpec, ...], size: int) -> dict[str, NDArray[Any]]:
    """Return seeded random data: batch 1, and `size` where another dimension is open."""
    rng = np.random.default_rng(0)
    return {spec.name: rng.random(shape(spec, size)).astype(spec.dtype) for spec in specs}


def shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """Return the shape to feed."""
    return tuple(
        dim if isinstance(dim, int) else size if axis else 1 for axis, dim in enumerate(spec.shape)
    )


def report(measurement: Measurement) -> dict[str, Any]:
    """Return the time of our call over the bare one's, with its 95 % interval."""
    speedup = measurement.ratios[1]  # bare time / our time
    bare, bound = (float(np.median(samples)) for samples in measurement.samples)
    return {
        "bare_ms": 1e3 * bare,
        "bound_ms": 1e3 * bound,
        "ratio": 1 / speedup.value,
        "ratio_ci": [1 / speedup.high, 1 / speedup.low],
        "overhead_us": 1e6 * bare * (1 / speedup.value - 1),
        "control": measurement.control.value,
        "trusted": measurement.trusted,
        "rounds": len(measurement.orders),
    }


if __name__ == "__main__":
    main()
