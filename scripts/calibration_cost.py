"""What calibration costs over plain inference of the same images, in time and in memory.

Both sides run in this process, in turn: all cores infer the preprocessed images with the model as
it is (batch 1, ONNX Runtime's defaults), then `collect` gathers the statistics of every target. The
ratio of each pair and their median are printed as JSON. Images are decoded once, beforehand, so
that only inference and counting are compared; `end_to_end_seconds` includes decoding.

Example:
    python scripts/calibration_cost.py model.onnx imgs/ --recipe imagenet --pairs 3
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from qbench.benchmarking.environment import peak_rss_bytes
from qbench.calibration.calibrate import DataChoice, calibrate, open_choice
from qbench.calibration.collect import collect
from qbench.data.samples import Sample, Source
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.placement.targets import TARGETS, observed_tensors
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort import OrtRunner


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
            },
            indent=2,
        )
    )


def measure_pairs(model: Model, choice: DataChoice, count: int) -> list[dict[str, float]]:
    """Return seconds of both sides and their ratio, `count` times in turn."""
    source = Preloaded(open_choice(model, choice)[1])
    prepared = prepare(model)
    tensors = observed_tensors(prepared, list(TARGETS))
    assert model.path is not None
    runner = OrtRunner(model.path)
    runner.run(source.load(0).feeds)
    pairs = []
    for _ in range(count):
        started = time.perf_counter()
        for sample in source.samples:
            runner.run(sample.feeds)
        middle = time.perf_counter()
        collect(prepared, tensors, source, threads=usable_cores())
        plain, calibration = middle - started, time.perf_counter() - middle
        pairs.append(
            {"plain_seconds": plain, "calibrate_seconds": calibration, "ratio": calibration / plain}
        )
    return pairs


if __name__ == "__main__":
    main()
