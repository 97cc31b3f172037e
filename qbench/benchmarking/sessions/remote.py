"""A candidate in a process of its own."""

import logging
import pickle
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.sessions.messages import Done, Failed, Reply, Request, Said
from qbench.benchmarking.sessions.session import Facts, Task
from qbench.benchmarking.timing.clock import Block
from qbench.benchmarking.timing.sittings import Reload, Wait
from qbench.errors import WorkerError
from qbench.runtimes.base import OperatorTime
from qbench.runtimes.command import python_module

_WORKER = python_module("qbench.benchmarking.sessions.worker")
_SECONDS_TO_CLOSE = 5.0
_LAST_WORDS = 2000
_SIGKILL = 9  # which Windows does not name

_DOING = {
    "open": "while it was loaded",
    "judge": "while it was judged",
    "time_block": "while it was timed",
    "reload": "while it was loaded anew",
    "profile": "while it was profiled",
}


class RemoteSession:
    """A `Session` whose candidate runs in a worker process; its calls are timed in there.

    Args:
        task: What to run.
        heard: What workers have said already, and what shall not be logged again.

    Raises:
        WorkerError: The process ended.
        QbenchError: As `LocalSession`.
    """

    def __init__(self, task: Task, heard: set[str]) -> None:
        self._task, self._heard = task, heard
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115, closed with the session
        started = time.perf_counter()
        self._process = self._started()
        try:
            self.facts: Facts = self._ask("open", task)
        except BaseException:
            self.close(at_once=True)
            raise
        self._seconds = time.perf_counter() - started

    @property
    def reloads(self) -> tuple[Reload, ...]:
        """The ways to load it anew: in a fresh process, or in the one that it is in."""
        return (
            Reload(self._restart, self._seconds),
            Reload(lambda: partial(self._ask, "reload"), self.facts.reload_seconds),
        )

    def judge(self) -> Judged | None:
        """Return its accuracy; None where there are no images."""
        judged: Judged | None = self._ask("judge")
        return judged

    def time_block(self, calls: int, lead: int) -> Block:
        """Time at least `calls` calls, after `lead` more that are not timed."""
        block: Block = self._ask("time_block", calls, lead)
        return block

    def profile(self) -> tuple[OperatorTime, ...]:
        """Return what takes its time, largest first."""
        profile: tuple[OperatorTime, ...] = self._ask("profile")
        return profile

    def close(self, *, at_once: bool = False) -> None:
        """End the process; it is given time to free what it holds, unless `at_once`."""
        if not at_once and self._process.poll() is None:
            with suppress(WorkerError, subprocess.TimeoutExpired):
                self._ask("close")
                self._hang_up()
                self._process.wait(_SECONDS_TO_CLOSE)
        self._kill()
        self._stderr.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        # In a session of its own the terminal's Ctrl-C reaches this process alone, which ends it.
        return subprocess.Popen(
            _WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows' own way
        )

    def _restart(self) -> Wait:
        """Begin a fresh process.

        It loads the model once it is waited for, so that candidates do so one after the other: some
        runtimes choose their kernels by timing them.
        """
        self._kill()
        self._stderr.seek(0)
        self._stderr.truncate()
        self._process = self._started()
        return self._reopen

    def _reopen(self) -> None:
        """Load it in the process that was begun; what the first one told stays."""
        facts: Facts = self._ask("open", self._task, doing="reload")
        self.facts = replace(self.facts, pid=facts.pid)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._hang_up()

    def _ask(self, method: str, *arguments: Any, doing: str | None = None) -> Any:
        """Return what the worker answers, or tell how it ended: while `doing`, or the method.

        Raises:
            WorkerError: It ended.
            QbenchError: What it answers.
        """
        try:
            self._send(Request(method, arguments))
            while isinstance(reply := self._receive(), Said):
                self._log(reply)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._died(doing or method) from error
        if isinstance(reply, Failed):
            raise reply.error
        return reply.value

    def _send(self, request: Request) -> None:
        assert self._process.stdin is not None  # it is a pipe
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()

    def _receive(self) -> Reply:
        assert self._process.stdout is not None  # it is a pipe
        reply: Done | Failed | Said = pickle.load(self._process.stdout)
        return reply

    def _log(self, said: Said) -> None:
        if said.text not in self._heard:
            self._heard.add(said.text)
            logging.getLogger(said.logger).log(said.level, "%s", said.text)

    def _died(self, method: str) -> WorkerError:
        try:
            returncode = self._process.wait(_SECONDS_TO_CLOSE)
        except subprocess.TimeoutExpired:  # it closed its end, and lives on
            self._process.kill()
            returncode = self._process.wait()
        doing = _DOING.get(method, "while it was closed")
        return WorkerError(death(returncode, doing, self._last_words()))

    def _last_words(self) -> str:
        self._stderr.seek(0)
        text = self._stderr.read()[-_LAST_WORDS:].decode("utf-8", errors="replace").strip()
        return text.splitlines()[-1] if text else ""

    def _hang_up(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not sent is lost with the process
                    pipe.close()


def death(returncode: int, doing: str, last_words: str) -> str:
    """Return in one line how a process ended, and what to do.

    Args:
        returncode: As of `subprocess.Popen`.
        doing: When.
        last_words: The last line that it printed; may be empty.
    """
    said = f" ({last_words})" if last_words else ""
    if returncode == -_SIGKILL:
        return (
            f"its process was killed {doing}{said}, as the system does when memory runs out; "
            "use a smaller --batch, or free memory"
        )
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"its process crashed with {name} {doing}{said}; use another version of its runtime"
    return (
        f"its process ended with code {returncode} {doing}{said}; use another provider or version"
    )
