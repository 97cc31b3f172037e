"""The options of `qbench bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qbench.cli.options.project import find_model
from qbench.cli.options.shared import DataArguments, Decorated, limits_option, with_options
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.benchmarking.judging.labelled_data import LabelledData
    from qbench.benchmarking.result import Mode
    from qbench.runs.gate import Limits


class CountsType(click.ParamType[tuple[int, ...]]):
    """Whole numbers, such as `1,8`."""

    name = "counts"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() and int(word) >= self._least for word in words):
            self.fail(
                f"{value!r} is no list of numbers from {self._least} on; write 1,8", param, ctx
            )
        return tuple(dict.fromkeys(map(int, words)))


@dataclass(frozen=True, kw_only=True)
class BenchArguments(DataArguments):
    """What `qbench bench` is asked."""

    models: tuple[Path, ...]
    precisions: str
    providers: str
    labels: Path | None
    task: str | None
    decoder: str
    table: Path | None
    simulate: bool
    batch: tuple[int, ...]
    threads: tuple[int, ...]
    streams: tuple[int, ...]
    mode: Mode
    rate: float | None
    graph: bool
    profile: bool
    in_process: bool
    allow_fallback: bool
    cuda_backend: str
    cache: Path | None
    effort: str | None
    baseline: str | None
    limits: Limits | None
    no_store: bool
    restart: bool
    as_json: bool

    def paths(self) -> list[Path]:
        """Return the models, given or plain from the folder."""
        return list(self.models) or [find_model(None, self.project)]

    def images(self) -> LabelledData | None:
        """Return the images to judge accuracy on, or None.

        Raises:
            UsageError: Labels or a task are given without images, images without a task, or a
                decoder for another task than detection.
        """
        from qbench.benchmarking.judging.labelled_data import LabelledData

        choice = self.choice()
        if choice is None:
            if self.labels or self.task:
                raise UsageError("accuracy needs images; add --data FOLDER")
            return None
        if self.task is None:
            raise UsageError(
                "--data alone says not what accuracy means; add --task classify, detect, "
                "segment or embed"
            )
        if self.decoder != "auto" and self.task != "detect":
            raise UsageError("--decoder reads boxes; drop it, or give --task detect")
        return LabelledData(choice, self.labels, self.task, self.decoder)


def load_options(command: Decorated) -> Decorated:
    """Add the options that say how candidates are driven."""
    counts, natural = CountsType(), CountsType(least=0)
    modes = click.Choice(["latency", "throughput", "paced"])
    return with_options(
        command,
        click.option("--batch", type=counts, default=(), help="Images per call, as in 1,8."),
        click.option(
            "--threads", type=natural, default=(0,), help="Per model, as in 1,2; 0: all cores."
        ),
        click.option("--streams", type=counts, default=(1,), help="Calls in flight, as in 1,4."),
        click.option("--mode", type=modes, default="latency", help="See above."),
        click.option("--rate", type=float, help="Calls a second of --mode paced."),
        click.option("--graph", is_flag=True, help="Launch engines as CUDA graphs."),
        click.option("--profile", is_flag=True, help="Tell which operators take the time."),
        click.option("--in-process", is_flag=True, help="No process for each candidate."),
    )


def keep_options(command: Decorated) -> Decorated:
    """Add the options that say what is kept, and what it is held against."""
    return with_options(
        command,
        click.option(
            "--baseline", metavar="RUN", help="Compare with this run, or a .json of bench."
        ),
        limits_option,
        click.option("--no-store", is_flag=True, help="Keep nothing in .qbench."),
        click.option("--restart", is_flag=True, help="Keep no row of a stopped run."),
    )
