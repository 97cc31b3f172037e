"""Run calls in threads of their own, all at once."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

SECONDS = 60.0
"""After which a call that waits for the others gives up, and the test fails."""


def run_at_once(calls: Sequence[Callable[[], None]], repeats: int = 5) -> None:
    """Run each call in a thread of its own, all of them starting together, `repeats` times."""
    start = threading.Barrier(len(calls))

    def work(call: Callable[[], None]) -> None:
        for _ in range(repeats):
            start.wait(SECONDS)
            call()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(work, calls))
