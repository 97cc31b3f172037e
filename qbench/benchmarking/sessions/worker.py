"""The process that runs one candidate: `python -m qbench.benchmarking.sessions.worker`.

It reads requests from standard input and writes replies to standard output, pickled; both ends are
this package. `remote.py` is the other end. Standard streams and not `multiprocessing`, which would
run the caller's main module again, and with it any script that has no `__main__` guard.
"""

import logging
import pickle
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from qbench.benchmarking.sessions.messages import Done, Failed, Reply, Request, Said
from qbench.benchmarking.sessions.session import Facts, LocalSession, Task
from qbench.errors import QbenchError
from qbench.runtimes.command import claim_stdout


def main() -> None:
    """Serve requests until there are no more: also when the other end is gone."""
    requests, replies = sys.stdin.buffer, claim_stdout()

    def send(reply: Reply) -> None:
        pickle.dump(reply, replies)
        replies.flush()

    logger = logging.getLogger("qbench")
    logger.addHandler(_Teller(send))
    logger.setLevel(logging.INFO)
    server = Server()
    while (request := _next(requests)) is not None:
        try:
            send(Done(server.serve(request)))
        except QbenchError as error:
            send(Failed(error))


class Server:
    """Does what is asked with one candidate."""

    def __init__(self) -> None:
        self._session: LocalSession | None = None

    def serve(self, request: Request) -> Any:
        """Return what a request gives."""
        if request.method == "open":
            return self._open(*request.arguments)
        return getattr(self._session, request.method)(*request.arguments)

    def _open(self, task: Task) -> Facts:
        self._session = LocalSession(task, is_alone=True)
        return self._session.facts


class _Teller(logging.Handler):
    """Sends what is logged to the other end."""

    def __init__(self, send: Callable[[Reply], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Said(record.name, record.levelno, record.getMessage()))


def _next(requests: BinaryIO) -> Request | None:
    try:
        request: Request = pickle.load(requests)
    except EOFError:
        return None
    return request


if __name__ == "__main__":
    main()
