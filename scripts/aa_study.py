"""Check the benchmark on itself: identical candidates must tie, a planted slowdown must be found.

Each repetition loads the same model three times, plants the slowdown in the third, and measures
them against the first. Reported over the repetitions, beside what a sound method may show:

- how often the interval of the identical second excludes 1 (at most 10 %),
- how often it lies wholly beyond 1 % (never),
- how often the slowdown is found, which is the verdict "slower" (at least 95 %).

Example:
    python scripts/aa_study.py model.onnx --repetitions 30 --slow 0.03
"""

import argparse
import json
import time
from pathlib import Path

import msgspec
import numpy as np

from qbench.benchmarking.clock import Call
from qbench.benchmarking.schedule import Measurement, measure
from qbench.benchmarking.settings import MODES
from qbench.benchmarking.stats import is_breach
from qbench.model.spec import TensorSpec
from qbench.runtimes.ort import OrtRunner

DEMO_MODEL = Path(__file__).parents[1] / "qbench/demo/classifier.onnx"


def main() -> None:
    """Run the study and print one line per repetition, then the shares as JSON."""
    args = parse_args()
    found = []
    for repetition in range(args.repetitions):
        measurement = study(args, repetition)
        found.append(judge(measurement))
        print(line(repetition, measurement), flush=True)
    shares = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    print(json.dumps({"repetitions": len(found), "slow": args.slow, **shares}, indent=2))


def parse_args() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, nargs="?", default=DEMO_MODEL)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument(
        "--slow", type=float, default=0.03, help="share of time to add, 0.03 = 3 %%"
    )
    parser.add_argument("--mode", choices=MODES, default="normal")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="for dynamic dimensions but the batch")
    return parser.parse_args()


def study(args: argparse.Namespace, repetition: int) -> Measurement:
    """Measure two identical candidates and a slowed one, all loaded anew."""
    same, twin, third = (bound_call(args.model, args.threads, args.size) for _ in range(3))
    settings = msgspec.structs.replace(MODES[args.mode], seed=repetition)
    return measure([same, twin, slowed(third, args.slow)], settings)


def bound_call(model: Path, threads: int, size: int) -> Call:
    """Return a call of `model` on random data."""
    runner = OrtRunner(model, threads=threads)
    rng = np.random.default_rng(0)
    return runner.bind(
        {spec.name: rng.random(shape(spec, size)).astype(spec.dtype) for spec in runner.inputs}
    )


def shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """Return the shape to feed: batch 1, and `size` where another dimension is dynamic."""
    return tuple(
        dim if isinstance(dim, int) else size if axis else 1 for axis, dim in enumerate(spec.shape)
    )


def slowed(call: Call, share: float) -> Call:
    """Return `call` with busy waiting after it, for `share` of the time that it took."""
    now = time.perf_counter_ns

    def slow() -> None:
        started = now()
        call()
        ended = now()
        end = ended + share * (ended - started)
        while now() < end:
            pass

    return slow


def judge(measurement: Measurement) -> dict[str, bool]:
    """Return what is counted over the repetitions."""
    twin = measurement.ratios[1]
    return {
        "excludes_1": not twin.low <= 1 <= twin.high,
        "beyond_1_percent": is_breach(twin),
        "control_excludes_1": not measurement.control.low <= 1 <= measurement.control.high,
        "untrusted": not measurement.trusted,
        "slowdown_found": measurement.verdicts[2] == "slower",
        "reached": measurement.reached,
        "unsettled": any(measurement.unsettled),
    }


def line(repetition: int, measurement: Measurement) -> str:
    """Return one repetition in one line."""
    shown = (measurement.control, *measurement.ratios[1:])
    texts = [f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in shown]
    return (
        f"{repetition:3} control {texts[0]}  twin {texts[1]}  slowed {texts[2]}  "
        f"{measurement.verdicts[2]:12} {len(measurement.orders)} rounds {measurement.seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
