"""Check the benchmark on itself: identical candidates must tie, a planted slowdown must be found.

Each repetition loads the same model three times, plants the slowdown in the third, and measures
them against the first. Reported over the repetitions, beside what a sound method may show:

- how often the interval of the identical second excludes 1 (at most 10 %),
- how often it lies wholly beyond 1 % (never),
- how often the slowdown is found, which is the verdict "slower" (at least 95 %).

With --workers each of the three runs in a process of its own, as in `qbench bench`. Intervals of
--mode quick may be too wide to tell 3 % from the margin of 1 %; plant more there.

A long study can be made in parts: --out keeps what each repetition found, a repetition that it
holds is not made again, and the sums are over all that it holds.

Example:
    python scripts/aa_study.py model.onnx --repetitions 30 --slow 0.03 --workers --threads 2
    python scripts/aa_study.py model.onnx --out study.jsonl --seconds 400
"""

import argparse
import json
import os
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from planted import Planted

from qbench.benchmarking.judging.feeding import Feeding
from qbench.benchmarking.sessions.remote import RemoteSession
from qbench.benchmarking.sessions.session import LocalSession, Session, Task
from qbench.benchmarking.sessions.workload import Load
from qbench.benchmarking.stats import Interval, is_breach
from qbench.benchmarking.timing.clock import Block
from qbench.benchmarking.timing.schedule import Measurement, measure_blocks
from qbench.benchmarking.timing.settings import MODES
from qbench.runtimes.cuda.choose import DEFAULT_BACKEND
from qbench.runtimes.ort.providers import ProviderChoice
from qbench.runtimes.ort.runner import OrtRunner

DEMO_MODEL = Path(__file__).parents[1] / "qbench/demo/classifier.onnx"


def main() -> None:
    """Run the study and print one line per repetition, then the counts as JSON."""
    args = parse_args()
    known = filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))
    os.environ["PYTHONPATH"] = os.pathsep.join(known)  # where workers find what is planted
    found = kept(args)
    ends = time.monotonic() + args.seconds
    for repetition in range(args.repetitions):
        if repetition in found or time.monotonic() > ends:
            continue
        measurement = study(args, repetition)
        found[repetition] = judge(measurement)
        keep(args, repetition, found[repetition])
        print(line(repetition, measurement), flush=True)
    if found:
        print(json.dumps(counts(args, list(found.values())), indent=2))


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
    parser.add_argument("--out", type=Path, help="a file of lines that a later call goes on with")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no repetition after this time"
    )
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
        reloads = [session.reloads for session in sessions]
        return measure_blocks(timers, settings, reloads=reloads)
    finally:
        for session in sessions:
            session.close()


def task_of(args: argparse.Namespace, share: float) -> Task:
    """Return a candidate on random data, slowed by `share`."""
    with closing(OrtRunner(args.model, threads=args.threads)) as runner:
        feeding = Feeding(runner.inputs, (args.size, args.size))
    load = Load(threads=args.threads)
    return Planted(args.model, ProviderChoice(), None, False, feeding, load, DEFAULT_BACKEND, share)


def time_block(session: Session, calls: int, *, lead: int = 0) -> Block:
    """Time calls of a candidate, wherever it runs."""
    return session.time_block(calls, lead)


def judge(measurement: Measurement) -> dict[str, Any]:
    """Return what is counted over the repetitions, and beside it the figures."""
    twin, slowed = measurement.ratios[1:]
    return {
        "excludes_1": not twin.low <= 1 <= twin.high,
        "beyond_1_percent": is_breach(twin),
        "control_excludes_1": not measurement.control.low <= 1 <= measurement.control.high,
        "untrusted": not measurement.trusted,
        "slowdown_found": measurement.verdicts[2] == "slower",
        "reached": measurement.reached,
        "unsettled": any(measurement.unsettled),
        "twin": values(twin),
        "slowed": values(slowed),
        "control": values(measurement.control),
        "rounds": len(measurement.orders),
        "sittings": max(measurement.loads),
        "seconds": measurement.seconds,
    }


def values(interval: Interval) -> list[float]:
    """Return a ratio and the ends of its interval."""
    return [interval.value, interval.low, interval.high]


def kept(args: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """Return what earlier calls found, by repetition.

    Raises:
        ValueError: They studied something else.
    """
    if args.out is None or not args.out.exists():
        return {}
    lines = [json.loads(text) for text in args.out.read_text("utf-8").splitlines()]
    for one in lines:
        if one["asked"] != asked(args):
            raise ValueError(f"{args.out} is a study of {one['asked']}; name another file")
    return {one["repetition"]: one["found"] for one in lines}


def keep(args: argparse.Namespace, repetition: int, found: dict[str, Any]) -> None:
    """Add a repetition to the file."""
    if args.out is None:
        return
    with args.out.open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"repetition": repetition, "asked": asked(args), "found": found}) + "\n"
        )


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """Return what repetitions must have in common."""
    names = ("slow", "mode", "threads", "workers", "size")
    return {"model": args.model.name, **{name: getattr(args, name) for name in names}}


def counts(args: argparse.Namespace, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how often each thing happened, and the mean effort."""
    sums = {
        name: sum(one[name] for one in found)
        for name, value in found[0].items()
        if isinstance(value, bool)
    }
    efforts = {
        name: sum(one[name] for one in found) / len(found)
        for name in ("rounds", "sittings", "seconds")
    }
    return {"repetitions": len(found), **asked(args), **sums, "mean": efforts}


def line(repetition: int, measurement: Measurement) -> str:
    """Return one repetition in one line."""
    shown = (measurement.control, *measurement.ratios[1:])
    texts = [f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in shown]
    return (
        f"{repetition:3} control {texts[0]}  twin {texts[1]}  slowed {texts[2]}  "
        f"{measurement.verdicts[2]:12} {len(measurement.orders)} rounds, "
        f"{max(measurement.loads)} loads, {measurement.seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
