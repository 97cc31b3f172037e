"""What is seen of a build while it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

    from qbench.engines.builder import OnProgress
    from qbench.engines.protocol import Progress

_FORMAT = "compiling {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


@contextmanager
def shown_build(verbose: bool) -> Iterator[OnProgress]:
    """Yield a callback that moves a bar on stderr, where stderr is a terminal.

    Args:
        verbose: Show the compiler's own messages in place of the bar.
    """
    is_hidden = verbose or not sys.stderr.isatty()
    bar = _Bar()
    with _compiler_log(verbose), closing(bar):
        yield _ignore if is_hidden else bar.show


class _Bar:
    """A bar that appears with the first event: the model is written before it is compiled."""

    def __init__(self) -> None:
        from qbench.engines.progress import BuildProgress

        self._progress = BuildProgress()
        self._bar: tqdm[NoReturn] | None = None

    def show(self, event: Progress) -> None:
        """Move the bar on."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=1.0,
                bar_format=_FORMAT,
                postfix=event.phase,
                leave=False,
                dynamic_ncols=True,
                miniters=0,
            )
        self._bar.set_postfix_str(event.phase, refresh=False)
        self._bar.update(self._progress.after(event) - self._bar.n)

    def close(self) -> None:
        """Wipe the bar away."""
        if self._bar is not None:
            self._bar.close()


def _ignore(_: Progress) -> None:
    """Show nothing."""


@contextmanager
def _compiler_log(shown: bool) -> Iterator[None]:
    logger = logging.getLogger("qbench.engines.compiler")
    before = logger.level
    logger.setLevel(logging.DEBUG if shown else before)
    try:
        yield
    finally:
        logger.setLevel(before)
