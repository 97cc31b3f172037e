"""The parent's side of a build, against stand-ins for the worker."""

import os
import subprocess
import sys

import msgspec
import pytest

from qbench.engines.compiling import builder
from qbench.engines.compiling.builder import build
from qbench.engines.compiling.limits import Limits
from qbench.engines.compiling.protocol import (
    BuildOptions,
    ImplicitInt8,
    Progress,
    decode_request,
    encode,
)
from qbench.engines.profiles import ShapeProfile, ShapeRange
from qbench.errors import EngineError, StorageError, UnfitError

BUILT = """
import os, sys
from pathlib import Path
from qbench.engines.compiling.protocol import *
request = decode_request(sys.stdin.buffer.read())
def send(event):
    os.write(1, encode(event))
"""


@pytest.fixture
def worker(monkeypatch):
    def run(code):
        monkeypatch.setattr(builder, "_WORKER", (sys.executable, "-c", BUILT + code))

    return run


@pytest.fixture
def job(request_for, tmp_path):
    return request_for(tmp_path / "model.onnx")


def left_over(job):
    return sorted(path.name for path in job.output.parent.iterdir())


def test_request_survives_the_pipe(job, tmp_path):
    shapes = ShapeRange((1, 3), (2, 3), (4, 3))
    full = msgspec.structs.replace(
        job,
        profiles=(ShapeProfile({"x": shapes}),),
        options=BuildOptions(
            workspace_bytes=1,
            target_gpus=("sm86",),
            io_formats={"x": ("hwc8",)},
            timing_cache=tmp_path / "t.cache",
        ),
        implicit=ImplicitInt8("minmax", "x: 3c010a14"),
        failed_log=tmp_path / "failed.log",
    )
    assert decode_request(encode(full)) == full


def test_engine_and_progress(worker, job):
    worker(
        "send(Progress('parse', None, 1, 2)); Path(sys.argv[1]).write_bytes(b'engine');"
        "send(Built(1.5, ('sm86',)))"
    )
    seen = []
    result = build(job, seen.append)
    assert seen == [Progress("parse", None, 1, 2)]
    assert (result.seconds, result.size_bytes, result.targets) == (1.5, 6, ("sm86",))
    assert job.output.read_bytes() == b"engine"
    assert left_over(job) == ["model.engine", "model.log"]


def test_what_the_compiler_prints_goes_to_the_log(worker, job, capfd):
    worker("os.write(2, b'warning: x'); Path(sys.argv[1]).touch(); send(Built(0.0, ()))")
    build(job)
    assert job.log.read_bytes() == b"warning: x"
    assert capfd.readouterr() == ("", "")


def test_errors_keep_their_class(worker, job):
    worker("send(Failed('UnfitError', 'no library; reinstall it'))")
    with pytest.raises(UnfitError, match=r"^no library; reinstall it$"):
        build(job)
    assert left_over(job) == ["model.log"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "os.kill(os.getpid(), 9)",
            r"was ended by signal 9 \(Killed\); is there enough memory\?; see",
        ),
        ("os.kill(os.getpid(), 11)", r"was ended by signal 11 \(Segmentation fault\); see"),
        ("sys.exit(3)", "stopped with exit code 3; see"),
        (
            "Path(sys.argv[1]).touch(); send(Built(0.0, ())); sys.exit(4)",
            "stopped with exit code 4",
        ),
        ("", "stopped with exit code 0; see"),
        ("raise TypeError('none was made')", r"stopped with exit code 1 \(TypeError: none was ma"),
    ],
)
def test_a_dead_compiler_is_an_error(worker, job, code, message):
    worker(f"Path(sys.argv[1]).write_bytes(b'half'); {code or 'pass'}")
    with pytest.raises(EngineError, match=rf"the compiler of .*model\.onnx {message}"):
        build(job)
    assert left_over(job) == ["model.log"]


def test_a_compiler_that_never_listens_is_an_error(monkeypatch, job):
    monkeypatch.setattr(builder, "_WORKER", (sys.executable, "-c", "import sys; sys.exit(1)"))
    big = msgspec.structs.replace(job, options=BuildOptions(target_gpus=("sm86",) * 50_000))
    with pytest.raises(EngineError, match="exit code 1"):
        build(big)


def test_notices_are_warnings(worker, job, caplog):
    worker("send(Notice('the cache is old')); Path(sys.argv[1]).touch(); send(Built(0.0, ()))")
    build(job)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "the cache is old")
    ]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(seconds=0.5), r"took longer than the 0\.5 s of --timeout; allow more; see .*\.log"),
        (Limits(memory_bytes=1 << 20), "held more than the 1 MiB of --memory-limit; allow more"),
    ],
)
def test_a_compiler_beyond_its_limits_is_ended(worker, job, limits, message):
    worker("import time; Path(sys.argv[1]).write_bytes(b'half'); time.sleep(600)")
    with pytest.raises(EngineError, match=rf"the compiler of .*model\.onnx {message}"):
        build(job, limits=limits)
    assert left_over(job) == ["model.log"]


def test_the_log_of_a_failure_is_kept_under_its_own_name(worker, job, tmp_path):
    worker("os.write(2, b'why'); send(Failed('EngineError', 'cannot build'))")
    kept = tmp_path / "model.failed.log"
    staged = msgspec.structs.replace(job, failed_log=kept, title="m.onnx in int8")
    with pytest.raises(EngineError, match=rf"^cannot build; see {kept}$"):
        build(staged)
    assert (kept.read_bytes(), left_over(job)) == (b"why", [])
    worker("os.abort()")
    with pytest.raises(
        EngineError, match=r"^the compiler of m\.onnx in int8 was ended by signal 6"
    ):
        build(staged)


def test_a_place_for_the_failed_log_that_cannot_be_written(worker, job, tmp_path):
    worker("send(Failed('EngineError', 'cannot build'))")
    (tmp_path / "file").touch()
    lost = msgspec.structs.replace(job, failed_log=tmp_path / "file" / "x.log")
    with pytest.raises(StorageError, match=r"cannot write .*x\.log: Not a directory"):
        build(lost)


def test_the_log_is_shown_to_those_who_ask(worker, job, caplog):
    worker("os.write(2, b'one\\ntwo\\n'); Path(sys.argv[1]).touch(); send(Built(0.0, ()))")
    caplog.set_level("DEBUG", "qbench.engines.compiler")
    build(job)
    assert [record.message for record in caplog.records] == ["one", "two"]
    assert job.log.read_bytes() == b"one\ntwo\n"


def test_an_interrupt_ends_what_is_shown(worker, job, caplog):
    worker("send(Progress('parse', None, 0, 1)); import time; time.sleep(600)")
    caplog.set_level("DEBUG", "qbench.engines.compiler")

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(job, interrupt)


def test_interrupt_kills_the_compiler(worker, job):
    worker(
        "import time; Path(sys.argv[1]).write_bytes(b'half');"
        "send(Progress(str(os.getpid()), None, 0, 1)); time.sleep(600)"
    )
    pids = []

    def interrupt(progress):
        pids.append(int(progress.phase))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(job, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert left_over(job) == ["model.log"]


def test_unwritable_log(job, tmp_path):
    blocked = msgspec.structs.replace(job, log=tmp_path)
    with pytest.raises(StorageError, match=r"cannot write .*: Is a directory"):
        build(blocked)


def test_only_events_reach_the_workers_stdout():
    code = (
        "import os; from qbench.runtimes.command import claim_stdout; events = claim_stdout();"
        "os.write(1, b'noise'); events.write(b'event'); events.flush()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"event", b"noise")
