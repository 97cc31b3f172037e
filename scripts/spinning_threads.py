"""Measure what spinning threads of ONNX Runtime cost, and what it costs to do without them.

Threads that run out of work spin for a while before they sleep. Within a run that saves waking them
for each node; after it, they take time from whatever runs next. For each setting, loaded anew for
each round:

- alone: median milliseconds of runs right behind each other
- in turns: the same where a second session of the model runs in between, in turns of two runs, of
  which the second is counted
- spun: milliseconds of processor time in the tenth of a second after a run

Example:
    python scripts/spinning_threads.py model.onnx --threads 2
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from qbench.data.synthetic import SyntheticSource
from qbench.model.load import load

DEMO_MODEL = Path(__file__).parents[1] / "qbench/demo/classifier.onnx"

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "rest between runs": {"session.force_spinning_stop": "1"},
    "no spinning": {"session.intra_op.allow_spinning": "0"},
}

Feeds = Mapping[str, NDArray[Any]]


def main() -> None:
    """Print a line for each setting: medians over the rounds."""
    args = parse_args()
    feeds = SyntheticSource(load(args.model).inputs, 1, seed=0).load(0).feeds
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for _ in range(args.rounds):
        for name, entries in SETTINGS.items():
            first, second = (opened(args.model, args.threads, entries) for _ in range(2))
            alone = timed([first], feeds, args.runs)
            in_turns = timed([first, second], feeds, args.runs)
            found[name].append((alone, in_turns, spun(first, feeds)))
    print(f"{'':20}{'alone':>9}{'in turns':>10}{'spun':>9}")
    for name, rows in found.items():
        print(f"{name:20}{'{:9.2f}{:10.2f}{:9.2f}'.format(*np.median(rows, axis=0))}")


def parse_args() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, nargs="?", default=DEMO_MODEL)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=50, help="of each session in a round")
    return parser.parse_args()


def opened(model: Path, threads: int, entries: Mapping[str, str]) -> ort.InferenceSession:
    """Return a session on the CPU with some configuration entries."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def timed(sessions: Sequence[ort.InferenceSession], feeds: Feeds, runs: int) -> float:
    """Return the median milliseconds of a run that comes right behind one of its own session."""
    seconds = []
    for _ in range(runs):
        for session in sessions:
            session.run(None, feeds)
            started = time.perf_counter()
            session.run(None, feeds)
            seconds.append(time.perf_counter() - started)
    return 1e3 * float(np.median(seconds))


def spun(session: ort.InferenceSession, feeds: Feeds) -> float:
    """Return the milliseconds of processor time that pass while this process sleeps."""
    session.run(None, feeds)
    started = time.process_time()
    time.sleep(0.1)
    return 1e3 * (time.process_time() - started)


if __name__ == "__main__":
    main()
