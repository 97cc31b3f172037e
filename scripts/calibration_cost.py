"""What calibration costs over plain inference of the same images, in time and in memory.

Both sides run in this process, in turn: all cores infer the preprocessed images with the model as
it is (batch 1, ONNX Runtime's defaults), then `collect` gathers the statistics of every target. The
ratio of each pair and their median are printed as JSON, of wall time and of processor time, which
suffers less where other programs run. Images are decoded once, beforehand, so that only inference
and counting are compared; `end_to_end_seconds` includes decoding.

Example:
    python scripts/calibration_cost.py model.onnx imgs/ --recipe imagenet --pairs 3
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qbench.benchmarking.environment import peak_rss_bytes
from qbench.calibration.calibrate import calibrate
from qbench.calibration.collect import Settings, collect
from qbench.calibration.kernels import counted_values
from qbench.data.choice import DataChoice, open_choice
from qbench.data.recipes import check_recipe
from qbench.data.samples import Sample, Source
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.placement.targets import TARGETS, observed_tensors
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort.runner import OrtRunner


class Preloaded:
    """A source whose samples are in memory, so that reading them costs nothing."""

    def __init__(self, source: Source) -> None:
        self.samples = [source.load(index) for index in range(len(source))]

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        return self.samples[index].name

    def load(self, index: int) -> Sample:
        return self.samples[index]

    def digest(self, index: int) -> str:
        raise NotImplementedError

    def fingerprint(self) -> str:
        raise NotImplementedError

    def describe(self) -> str:
        return "images in memory"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe")
    parser.add_argument("--size", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    size = (args.size, args.size) if args.size else None
    choice = DataChoice(args.data, args.recipe, size, args.limit)
    model = load(args.model)

    started = time.perf_counter()
    calibrate(model, choice)
    end_to_end = time.perf_counter() - started
    peak = peak_rss_bytes()
    pairs = measure_pairs(model, choice, args.pairs)
    print(
        json.dumps(
            {
                "end_to_end_seconds": end_to_end,
                "peak_rss_bytes": peak,
                "pairs": pairs,
                "median_ratio": float(np.median([pair["ratio"] for pair in pairs])),
                "median_cpu_ratio": float(np.median([pair["cpu_ratio"] for pair in pairs])),
            },
            indent=2,
        )
    )


def measure_pairs(model: Model, choice: DataChoice, count: int) -> list[dict[str, float]]:
    """Return seconds of both sides and their ratio, `count` times in turn."""
    recipe, found = open_choice(model.path, model.inputs, choice)
    source = Preloaded(found)
    prepared = prepare(model)
    tensors = observed_tensors(prepared, list(TARGETS))
    size = check_recipe(recipe, model.inputs[0]) if recipe else None
    settings = Settings(usable_cores(), counted_values(len(source)), size)
    assert model.path is not None
    runner = OrtRunner(model.path)
    runner.run(source.load(0).feeds)

    def infer() -> None:
        for sample in source.samples:
            runner.run(sample.feeds)

    def gather() -> None:
        collect(prepared, tensors, source, settings)

    return [_pair(infer, gather) for _ in range(count)]


def _pair(infer: Callable[[], None], gather: Callable[[], None]) -> dict[str, float]:
    (plain, plain_cpu), (calibration, calibration_cpu) = _seconds(infer), _seconds(gather)
    return {
        "plain_seconds": plain,
        "calibrate_seconds": calibration,
        "ratio": calibration / plain,
        "cpu_ratio": calibration_cpu / plain_cpu,
    }


def _seconds(call: Callable[[], None]) -> tuple[float, float]:
    """Return wall time and processor time, in seconds, of a call."""
    started, cpu_started = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - cpu_started


if __name__ == "__main__":
    main()
