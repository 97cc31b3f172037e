"""Check the benchmark on itself: identical candidates must tie, a planted slowdown must be found.

Each repetition loads the same model three times, plants the slowdown in the third, and measures
them against the first. Reported over the repetitions, beside what a sound method may show:

- how often the interval of the identical second excludes 1 (at most 10 %),
- how often it lies wholly beyond 1 % (never),
- how often the slowdown is found, which is the verdict "slower" (at least 95 %).

With --workers each of the three runs in a process of its own, as in `qbench bench`.

Example:
    python scripts/aa_study.py model.onnx --repetitions 30 --slow 0.03 --workers
"""

import argparse
import json
import os
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from planted import Planted

from qbench.benchmarking.clock import Block
from qbench.benchmarking.remote import RemoteSession
from qbench.benchmarking.schedule import Measurement, measure_blocks
from qbench.benchmarking.session import LocalSession, Session, Task
from qbench.benchmarking.settings import MODES
from qbench.benchmarking.stats import is_breach
from qbench.benchmarking.workload import Load
from qbench.runtimes.cuda.choose import DEFAULT_BACKEND
from qbench.runtimes.ort import OrtRunner
from qbench.runtimes.ort_providers import ProviderChoice

DEMO_MODEL = Path(__file__).parents[1] / "qbench/demo/classifier.onnx"


def main() -> None:
    """Run the study and print one line per repetition, then the shares as JSON."""
    args = parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where workers find what is planted
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
    parser.add_argument("--workers", action="store_true", help="a process for each candidate")
    parser.add_argument("--size", type=int, default=64, help="for dynamic dimensions but the batch")
    return parser.parse_args()


def study(args: argparse.Namespace, repetition: int) -> Measurement:
    """Measure two identical candidates and a slowed one, all loaded anew."""
    settings = msgspec.structs.replace(MODES[args.mode], seed=repetition)
    sessions: list[Session] = []
    try:
        for share in (0.0, 0.0, args.slow):
            task = task_of(args, share)
            sessions.append(RemoteSession(task, set()) if args.workers else LocalSession(task))
        timers = [partial(time_block, session) for session in sessions]
        return measure_blocks(timers, settings)
    finally:
        for session in sessions:
            session.close()


def task_of(args: argparse.Namespace, share: float) -> Task:
    """Return a candidate on random data, slowed by `share`."""
    with closing(OrtRunner(args.model, threads=args.threads)) as runner:
        feeding = Planted(runner.inputs, (args.size, args.size), share=share)
    load = Load(threads=args.threads)
    return Task(args.model, ProviderChoice(), None, False, feeding, load, DEFAULT_BACKEND)


def time_block(session: Session, calls: int, *, lead: int = 0) -> Block:
    """Time calls of a candidate, wherever it runs."""
    return session.time_block(calls, lead)


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
