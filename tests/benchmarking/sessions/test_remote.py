"""Candidates in processes of their own: the same figures, and a bad end that is only a row."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from crashing import Crashing

from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.judging.feeding import Feeding
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.sessions.remote import RemoteSession, death
from qbench.benchmarking.sessions.session import LocalSession, Session, Task
from qbench.benchmarking.sessions.workload import Load
from qbench.benchmarking.timing.settings import Settings
from qbench.data.choice import DataChoice
from qbench.data.recipes import Recipe
from qbench.errors import DataError, ModelError, WorkerError
from qbench.model.load import load
from qbench.model.spec import TensorSpec
from qbench.runtimes.base import Runner
from qbench.runtimes.ort.providers import ProviderChoice

TINY = Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)
RECIPE = Recipe(name="mine", scale=1 / 255)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Logits are the means of red, green and blue."""
    b = graphs.Builder(("N", 3, 8, 8))
    weight = b.constant("w", np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1))
    mean = b.node("GlobalAveragePool", "mean", b.node("Conv", "same", b.x, weight))
    onnx.save(b.model(b.node("Flatten", "logits", mean)), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def images(tmp_path: Path) -> LabelledData:
    """Twenty images, the last of which is damaged, as the log shall say once."""
    for i in range(20):
        path = tmp_path / "imgs" / str(i % 3) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = [0, 0, 0]
        colour[2 - i % 2] = 255  # OpenCV writes BGR
        cv2.imwrite(str(path), np.full((8, 8, 3), colour, np.uint8))
    path.write_bytes(path.read_bytes()[:20])
    return LabelledData(DataChoice(tmp_path / "imgs", RECIPE))


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import what tests give them."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def task_of(model: Path, feeding: Feeding | None = None, load: Load | None = None) -> Task:
    feeding = feeding or Feeding(_inputs(model))
    return Task(model, ProviderChoice(), None, False, feeding, load or Load(), "cuda-bindings")


def _inputs(model: Path) -> tuple[TensorSpec, ...]:
    return load(model).inputs


@contextmanager
def closing(session: Session) -> Iterator[Session]:
    try:
        yield session
    finally:
        session.close()


def children(pid: int) -> set[int]:
    """Return the processes that `pid` has begun and that live, but for the one that lists them."""
    words = ["ps", "-o", "pid=", "--ppid", str(pid)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listing:
        listed, _ = listing.communicate()
    return {int(word) for word in listed.split()} - {listing.pid}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_tells_what_this_process_would(
    model: Path, images: LabelledData, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(model, Feeding(_inputs(model), images=images, reference=model), Load(batch=2))
    here = LocalSession(task)
    local = here.judge()
    caplog.clear()
    heard: set[str] = set()
    with closing(RemoteSession(task, heard)) as there:
        assert (there.facts.batch, there.facts.provider) == (2, "cpu")
        assert there.facts.first_inference is not None
        judged = there.judge()
        assert judged is not None
        assert local is not None
        assert (judged.accuracy, judged.names) == (local.accuracy, local.names)
        np.testing.assert_array_equal(judged.outcome.drawn, local.outcome.drawn)
        block = there.time_block(7, 1)
        assert block.samples.shape == (7,)
        assert 0 < block.pace <= block.figure
        assert {part.operator for part in there.profile()} == {
            part.operator for part in here.profile()
        }
    with closing(RemoteSession(task, heard)) as again:
        again.judge()
    skipped = [record for record in caplog.records if "1 of 20 skipped" in record.message]
    assert [(record.name, record.levelname) for record in skipped] == [
        ("qbench.evaluation.stream", "WARNING")
    ]


def load_anew(session: Session, way: int) -> None:
    session.reloads[way].begin()()


def test_a_candidate_gets_a_fresh_process(model: Path) -> None:
    with closing(RemoteSession(task_of(model), set())) as there:
        before = there.facts
        load_anew(there, 0)
        assert there.facts.pid != before.pid
        assert there.facts == replace(before, pid=there.facts.pid)
        assert not is_alive(before.pid)
        assert is_alive(there.facts.pid)
        assert there.time_block(7, 1).samples.shape == (7,)
        assert there.profile()
    assert not is_alive(there.facts.pid)


def test_a_worker_loads_anew_in_its_process(model: Path) -> None:
    with closing(RemoteSession(task_of(model), set())) as there:
        before = there.facts
        load_anew(there, -1)
        assert there.facts == before
        assert there.time_block(7, 1).samples.shape == (7,)
        assert there.profile()


def test_a_process_takes_longer_than_a_load(model: Path) -> None:
    with closing(RemoteSession(task_of(model), set())) as there:
        process, load = there.reloads
        assert process.seconds > load.seconds > 0
    (only,) = LocalSession(task_of(model)).reloads
    assert only.seconds > 0


def test_processes_start_side_by_side(model: Path) -> None:
    sessions = [RemoteSession(task_of(model), set()) for _ in range(2)]
    before = children(os.getpid())
    waits = [session.reloads[0].begin() for session in sessions]
    begun = children(os.getpid()) - before  # before one is waited for
    for wait in waits:
        wait()
    assert {session.facts.pid for session in sessions} == begun
    assert all(session.time_block(3, 0).samples.shape == (3,) for session in sessions)
    for session in sessions:
        session.close()


def test_what_cannot_be_loaded_in_a_fresh_process(model: Path) -> None:
    with closing(RemoteSession(task_of(model), set())) as there:
        model.write_bytes(b"no model any more")
        with pytest.raises(ModelError, match="ONNX Runtime refuses the model"):
            load_anew(there, 0)


def test_a_fresh_process_that_dies(model: Path) -> None:
    with closing(RemoteSession(task_of(model), set())) as there:
        before = children(os.getpid())
        wait = there.reloads[0].begin()
        (fresh,) = children(os.getpid()) - before
        os.kill(fresh, signal.SIGSEGV)
        with pytest.raises(WorkerError, match="crashed with SIGSEGV while it was loaded anew; use"):
            wait()


def test_a_worker_begins_with_what_it_needs() -> None:
    """Its start is waited for at every sitting."""
    code = "import sys, qbench.benchmarking.sessions.worker; print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    spared = {"cv2", "numba", "onnx", "onnx_ir", "openvino", "tensorrt", "qbench.evaluation"}
    assert "onnxruntime" in listed.stdout.split()
    assert not spared & set(listed.stdout.split())


def test_labels_are_opened_only_to_judge(model: Path, images: LabelledData) -> None:
    feeding = Feeding(_inputs(model), images=replace(images, labels="none.csv"))
    session = LocalSession(task_of(model, feeding))
    assert session.time_block(3, 0).samples.shape == (3,)
    with pytest.raises(DataError, match=r"none\.csv"):
        session.judge()


def live_models() -> int:
    """Return how many models ONNX Runtime holds in this process."""
    return sum(isinstance(each, ort.InferenceSession) for each in gc.get_objects())


def test_a_model_is_let_go_before_it_is_loaded_anew(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_and_look(task: Task) -> Runner:
        held.append(live_models() - others)
        return opened(task)

    held: list[int] = []
    others, opened = live_models(), Task.open
    here = LocalSession(task_of(model))
    assert live_models() - others == 1
    monkeypatch.setattr(Task, "open", open_and_look)
    here.reload()
    assert held == [0]
    assert here.time_block(3, 0).samples.shape == (3,)


def test_its_memory_is_its_own(model: Path) -> None:
    ballast = np.ones(1 << 27, np.uint8)  # of this process
    with closing(RemoteSession(task_of(model), set())) as there:
        alone = there.facts.peak_rss_bytes
    here = LocalSession(task_of(model)).facts.peak_rss_bytes
    assert alone is not None
    assert here is not None
    assert here > alone + ballast.nbytes / 2


def test_an_error_is_that_of_the_candidate(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="ONNX Runtime refuses the model"):
        RemoteSession(replace(task_of(model), path=tmp_path / "bad.onnx"), set())
    onnx.save(graphs.residual(), tmp_path / "fixed.onnx")
    fixed = task_of(tmp_path / "fixed.onnx", load=Load(batch=3))
    with pytest.raises(DataError, match="the model's batch is fixed to 1, not 3"):
        RemoteSession(fixed, set())


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    ("by", "message"),
    [
        (
            "SIGSEGV",
            r"its process crashed with SIGSEGV while it was loaded \(the last words\); use",
        ),
        (
            "SIGKILL",
            r"its process was killed while it was loaded \(the last words\), as the system",
        ),
        ("3", r"its process ended with code 3 while it was loaded \(the last words\); use another"),
        ("raise", r"ended with code 1 while it was loaded \(ZeroDivisionError: a bug\)"),
    ],
)
def test_a_bad_end_is_told_in_one_line(by: str, message: str, model: Path) -> None:
    with pytest.raises(WorkerError, match=message) as caught:
        RemoteSession(task_of(model, Crashing(_inputs(model), by=by)), set())
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("workers")
def test_it_is_told_what_it_was_doing(model: Path) -> None:
    task = task_of(model, Crashing(_inputs(model), at="judge"))
    with closing(RemoteSession(task, set())) as there:
        with pytest.raises(WorkerError, match="crashed with SIGSEGV while it was judged"):
            there.judge()
        with pytest.raises(WorkerError, match="crashed with SIGSEGV while it was timed"):
            there.time_block(1, 0)
        with pytest.raises(WorkerError, match="crashed with SIGSEGV while it was loaded anew"):
            load_anew(there, -1)


def test_a_death_without_words() -> None:
    assert death(-signal.SIGABRT, "while it was timed", "") == (
        "its process crashed with SIGABRT while it was timed; use another version of its runtime"
    )


def test_a_candidate_that_crashes_is_a_row(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    time_block = RemoteSession.time_block

    def crash(self: RemoteSession, calls: int, lead: int) -> object:
        if self.facts.batch == 2 and not killed:
            killed.append(self.facts.pid)
            os.kill(self.facts.pid, signal.SIGSEGV)
        return time_block(self, calls, lead)

    monkeypatch.setattr(RemoteSession, "time_block", crash)
    options = Options(settings=TINY, isolate=True, batches=(1, 2, 3))
    rows = benchmark(model, precisions=["fp32"], options=options).rows
    assert [row.error is None for row in rows] == [True, False, True]
    assert "crashed with SIGSEGV while it was timed" in str(rows[1].error)
    assert rows[2].ratio is not None
    assert rows[0].peak_rss_bytes is not None
    assert not is_alive(killed[0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, None])
def test_no_worker_outlives_its_benchmark(
    error: type[BaseException] | None, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    opened = RemoteSession.__init__

    def note(self: RemoteSession, task: Task, heard: set[str]) -> None:
        opened(self, task, heard)
        started.append(self.facts.pid)

    def interrupt(*_: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(RemoteSession, "__init__", note)
    options = Options(settings=TINY, isolate=True, batches=(1, 2), on_round=interrupt)
    if error is None:
        benchmark(model, precisions=["fp32"], options=options)
    else:
        with pytest.raises(error):
            benchmark(model, precisions=["fp32"], options=options)
    assert len(started) == 2
    assert not any(map(is_alive, started))


def test_an_interrupt_ends_all_at_once_and_without_a_trace(model: Path) -> None:
    words = ["bench", str(model), "--batch", "1,2", "--strict"]
    code = f"from qbench.cli.main import main; main({words})"
    bench = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while len(workers := children(bench.pid)) < 2:
        assert bench.poll() is None
        time.sleep(0.1)
    os.killpg(bench.pid, signal.SIGINT)  # as a terminal does
    out, err = bench.communicate()
    assert (bench.returncode, out) == (130, b"")
    assert err.strip() == b"qbench: interrupted; no file was left half-written"
    assert not any(map(is_alive, workers))


def test_what_is_open_does_not_travel(model: Path, images: LabelledData) -> None:
    feeding = Feeding(_inputs(model), images=images, reference=model)
    closed = pickle.dumps(feeding)
    feeding.check()
    assert pickle.dumps(feeding) == closed
    assert pickle.loads(closed) == feeding
