"""`qbench compare`: what changed from one run to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qbench.cli.options.shared import json_option, limits_option

if TYPE_CHECKING:
    from qbench.runs.gate import Limits


@click.command()
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN")
@limits_option
@json_option
def compare(before: str, after: str, limits: Limits | None, as_json: bool) -> None:
    """Say what changed from the first RUN to the second.

    RUN is an id, its first letters, latest (of those that are finished), or a .json of `qbench
    bench --json`. Rows that measure the same are compared: of accuracy the difference, of latency
    the ratio (time then / time now, above 1 is faster), with 95 % intervals where the samples bear
    them. Milliseconds of different machines are not compared, only each row's speed-up over the
    baseline of its own run.

    --fail-on: exit code 3 where a row takes longer by more than the limit of latency, or loses more
    points than that of accuracy (1%: from 85.5 % to 84.5 %), and its whole interval says so; 4
    where its interval holds the limit, or a row of then is gone. One limit goes for both.
    """
    from qbench.cli.output.compare_table import print_comparison
    from qbench.cli.output.render import print_json
    from qbench.runs.compare import compare as compare_runs
    from qbench.runs.compare import find_run
    from qbench.runs.gate import judge
    from qbench.runs.reader import Reader

    store = Reader()
    found = [find_run(name, store, finished=True) for name in (before, after)]
    comparison = compare_runs(*found)
    judgement = None if limits is None else judge(comparison, limits)
    if as_json:
        print_json({"comparison": comparison, "judgement": judgement})
    else:
        print_comparison(comparison)
    if judgement is not None:
        judgement.check()
