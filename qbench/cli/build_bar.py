"""What is seen of a build while it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.engines.builder import OnProgress
    from qbench.engines.protocol import Progress

_FORMAT = "compiling {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


@contextmanager
def shown_build(verbose: bool) -> Iterator[OnProgress]:
    """Yield a callback that moves a bar on stderr, where stderr is a terminal.

    Args:
        verbose: Show the compiler's own messages in place of the bar.
    """
    from tqdm import tqdm

    from qbench.engines.progress import BuildProgress

    is_hidden = verbose or not sys.stderr.isatty()
    with (
        _compiler_log(verbose),
        tqdm(
            total=1.0, bar_format=_FORMAT, disable=is_hidden, leave=False, dynamic_ncols=True
        ) as bar,
    ):
        progress = BuildProgress()

        def report(event: Progress) -> None:
            bar.set_postfix_str(event.phase, refresh=False)
            bar.update(progress.after(event) - bar.n)

        yield report


@contextmanager
def _compiler_log(shown: bool) -> Iterator[None]:
    logger = logging.getLogger("qbench.engines.compiler")
    before = logger.level
    logger.setLevel(logging.DEBUG if shown else before)
    try:
        yield
    finally:
        logger.setLevel(before)
