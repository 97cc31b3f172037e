"""Check everything of qbench that needs a GPU, in one command and under eight minutes.

Each check runs in a process of its own with a limit on its time, so that one that fails, hangs or
crashes costs its own rows only. What is missing here is a row with the reason. Without options the
demo's classifier and generated images are used. Rows go to a table and, with --json, to a file.

Example:
    python scripts/gpu_check.py --json gpu.json
    python scripts/gpu_check.py --model m.onnx --data imgs/ --val val/ --recipe imagenet
    PYTHONPATH=SITE:. python3 scripts/gpu_check.py     (dependencies in a folder, no environment)
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from gpu_checks import engines, machine, trtexec, work
from gpu_checks.rows import Row, Rows, read_rows
from gpu_checks.work import Work
from rich.console import Console
from rich.table import Table

from qbench.artifacts import SCHEMA_VERSION, write_json
from qbench.benchmarking.environment import Environment, capture
from qbench.benchmarking.timing.settings import Settings
from qbench.errors import StorageError
from qbench.runtimes.cuda.choose import BACKENDS, DEFAULT_BACKEND


@dataclass(frozen=True)
class Check:
    """A check, and the most seconds that it may take."""

    run: Callable[[Work, Rows], None]
    seconds: float


CHECKS = {
    "prepare": Check(work.prepare, 60),
    "doctor": Check(machine.doctor, 40),
    "onnxruntime": Check(machine.onnxruntime, 90),
    "build tensorrt": Check(partial(engines.build, backend="tensorrt"), 120),
    "build rtx": Check(partial(engines.build, backend="rtx"), 60),
    "parity": Check(engines.parity, 40),
    "engines": Check(machine.engines, 60),
    "graphs": Check(engines.graphs, 50),
    "streams": Check(engines.streams, 50),
    "overhead": Check(engines.overhead, 50),
    "phases": Check(engines.phases, 30),
    "profile": Check(engines.profile, 30),
    "trtexec": Check(trtexec.beside, 60),
}
"""All checks, in an order in which each finds what it needs of those before it."""

SETTINGS = Settings(half_width=0.01, min_rounds=20, max_seconds=4.0, warmup_seconds=0.5)

RunCheck = Callable[[str, float, Work], list[Row]]


class Report(msgspec.Struct, frozen=True):
    """What the JSON file holds."""

    environment: Environment
    seconds: float
    rows: list[Row]
    schema_version: int = SCHEMA_VERSION


def main() -> None:
    """Run all checks, or within a process of its own the one that is named."""
    args = parse_args()
    if args.only is not None:
        run_here(args.only, work_from(args, args.folder))
        return
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="qbench-gpu-") as name:
        asked = work_from(args, (args.folder or Path(name)).resolve())
        asked.folder.mkdir(parents=True, exist_ok=True)
        rows = run_all(asked, args.seconds, partial(run_apart, options=sys.argv[1:]))
    seconds = time.perf_counter() - started
    print_table(rows, seconds)
    if args.json is not None:
        try:
            write_json(args.json, Report(capture(), seconds, rows))
        except StorageError as error:
            sys.exit(f"error: {error}")


def parse_args() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a float ONNX file; else the demo's")
    parser.add_argument("--data", type=Path, help="images to calibrate with")
    parser.add_argument("--val", type=Path, help="labelled images to judge with")
    parser.add_argument("--labels", type=Path, help="labels of --val")
    parser.add_argument("--recipe", help="how to preprocess")
    parser.add_argument("--task", default="classify", help="what --val is judged by")
    parser.add_argument("--cuda-backend", choices=BACKENDS, default=DEFAULT_BACKEND)
    parser.add_argument("--seconds", type=float, default=460, help="for everything")
    parser.add_argument("--folder", type=Path, help="keep models and engines here")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--only", choices=CHECKS, help=argparse.SUPPRESS)
    return parser.parse_args()


def work_from(args: argparse.Namespace, folder: Path) -> Work:
    """Return what to check with."""
    return Work(
        folder=folder,
        model=args.model,
        data=args.data,
        val=args.val,
        labels=args.labels,
        recipe=args.recipe,
        task=args.task,
        settings=SETTINGS,
        cuda_backend=args.cuda_backend,
    )


def run_all(asked: Work, seconds: float, run: RunCheck) -> list[Row]:
    """Run every check within its own limit and that of all, and return the rows."""
    rows, end = [], time.monotonic() + seconds
    for name, check in CHECKS.items():
        left = min(check.seconds, end - time.monotonic())
        sys.stderr.write(f"{name} ...\n")
        if left > 0:
            rows += run(name, left, asked)
        else:
            rows.append(Row(name, "", error="no time was left; give more with --seconds"))
    return rows


def run_apart(name: str, seconds: float, asked: Work, *, options: list[str]) -> list[Row]:
    """Run a check in a process of its own; one that is ended keeps the rows that it has written."""
    command = [sys.executable, __file__, *options, "--only", name, "--folder", str(asked.folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds
        )
        problem = None if done.returncode == 0 else death(done.returncode, done.stderr)
    except subprocess.TimeoutExpired:
        problem = f"took longer than {seconds:.0f} s"
    rows = read_rows(rows_path(asked, name))
    return rows if problem is None else [*rows, Row(name, "", error=problem)]


def run_here(name: str, asked: Work) -> None:
    """Run a check in this process; its rows go to their file."""
    path = rows_path(asked, name)
    path.unlink(missing_ok=True)
    CHECKS[name].run(asked, Rows(name, path))


def rows_path(asked: Work, name: str) -> Path:
    """Return the file of a check's rows."""
    return asked.folder / f"{name.replace(' ', '-')}.rows"


def death(returncode: int, stderr: str) -> str:
    """Return why a process ended as it did."""
    if returncode < 0:
        return f"ended by signal {-returncode} ({signal.strsignal(-returncode)})"
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {returncode}"


def print_table(rows: list[Row], seconds: float) -> None:
    """Print all rows; what did not work begins with a dash."""
    table = Table("check", "subject", "result", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.check, row.subject, row.result or f"- {row.error}")
    console = Console(highlight=False, markup=False)
    console.print(table)
    failed = sum(row.error is not None for row in rows)
    console.print(f"{len(rows) - failed} rows of {len(rows)} worked, in {seconds:.0f} s")


if __name__ == "__main__":
    main()
