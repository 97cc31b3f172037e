"""What is seen of a build while it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

    from qbench.engines.compiling.protocol import Progress

_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


@contextmanager
def shown_build(verbose: bool) -> Iterator[BuildBar]:
    """Yield callbacks that move a bar on stderr, where stderr is a terminal.

    Args:
        verbose: Show the compiler's own messages in place of the bar.
    """
    bar = BuildBar(is_hidden=verbose or not sys.stderr.isatty())
    with _compiler_log(verbose), closing(bar):
        yield bar


class BuildBar:
    """A bar that appears with the first event: first of a search for scales, then of the build."""

    def __init__(self, *, is_hidden: bool) -> None:
        from qbench.engines.compiling.progress import BuildProgress

        self._is_hidden = is_hidden
        self._progress = BuildProgress()
        self._bars: dict[str, tqdm[NoReturn]] = {}

    def search(self, done: int, total: int) -> None:
        """Show how far a search for scales is."""
        if self._is_hidden:
            return
        bar = self._bar("searching", total=total, unit="run")
        bar.update(done - bar.n)

    def build(self, event: Progress) -> None:
        """Show how far the build is."""
        if self._is_hidden:
            return
        bar = self._bar("compiling", total=1.0, bar_format=_FORMAT, postfix=event.phase, miniters=0)
        bar.set_postfix_str(event.phase, refresh=False)
        bar.update(self._progress.after(event) - bar.n)

    def close(self) -> None:
        """Wipe the bar away."""
        while self._bars:
            self._bars.popitem()[1].close()

    def _bar(self, what: str, **options: Any) -> tqdm[NoReturn]:
        """Return the bar of that name; it takes the place of another one."""
        from tqdm import tqdm

        if what not in self._bars:
            self.close()
            self._bars[what] = tqdm(desc=what, leave=False, dynamic_ncols=True, **options)
        return self._bars[what]


@contextmanager
def _compiler_log(shown: bool) -> Iterator[None]:
    logger = logging.getLogger("qbench.engines.compiler")
    before = logger.level
    logger.setLevel(logging.DEBUG if shown else before)
    try:
        yield
    finally:
        logger.setLevel(before)
