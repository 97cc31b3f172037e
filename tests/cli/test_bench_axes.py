"""`qbench bench` over batch sizes, threads, streams and modes."""

from pathlib import Path

import numpy as np
import pytest
from graphs import Builder

from qbench.benchmarking import candidate
from qbench.cli.main import run

from .conftest import Qbench, SaveModel, classifier, refused

pytestmark = pytest.mark.usefixtures("project", "quick")


@pytest.fixture
def dynamic(save: SaveModel) -> Path:
    return save(classifier(("N", 3, 16, 16)), "dynamic.onnx")


def test_each_batch_and_thread_count_is_a_row_once(dynamic: Path, qbench: Qbench) -> None:
    asked = ("bench", dynamic, "--batch", "1,4,1", "--threads", "1,2", "--quick")
    rows = qbench(*asked, "--json").json["rows"]
    assert [(row["batch"], row["threads"]) for row in rows] == [(1, 1), (1, 2), (4, 1), (4, 2)]
    out = qbench(*asked).out.splitlines()
    assert out[0].split()[:3] == ["precision", "batch", "thr."]
    assert "ratio: time of the first row / time of the row, per image" in out
    assert max(map(len, out)) <= 80


def test_a_fixed_batch_says_what_to_do(qbench: Qbench) -> None:
    message = refused(qbench("bench", "m.onnx", "--batch", "8", "--quick"))
    assert "the model's batch is fixed to 1, not 8; export it with an open batch" in message
    outcome = qbench("bench", "m.onnx", "--batch", "1,8", "--quick")
    assert outcome.code == 0
    assert "failed" in outcome.out


def test_throughput(dynamic: Path, qbench: Qbench) -> None:
    asked = ("bench", dynamic, "--mode", "throughput", "--streams", "1,2", "--quick")
    outcome = qbench(*asked)
    assert outcome.out.split()[:4] == ["precision", "str.", "accuracy", "img/s"]
    rows = qbench(*asked, "--json").json["rows"]
    assert [(row["mode"], row["streams"]) for row in rows] == [("throughput", 1), ("throughput", 2)]


def test_paced_load(dynamic: Path, qbench: Qbench) -> None:
    asked = ("bench", dynamic, "--mode", "paced", "--rate", "2000", "--quick")
    (row,) = qbench(*asked, "--json").json["rows"]
    assert (row["mode"], row["rate"]) == ("paced", 2000.0)
    assert row["latency_ms"]["p90"] is not None
    assert "p99" in qbench(*asked).out


def test_a_profile(qbench: Qbench) -> None:
    outcome = qbench("bench", "m.onnx", "--profile", "--quick")
    assert "time of fp32 cpu: " in outcome.out
    (row,) = qbench("bench", "m.onnx", "--profile", "--quick", "--json").json["rows"]
    assert sum(part["share"] for part in row["profile"]) == pytest.approx(1)


def test_openvino_beside_onnx_runtime(qbench: Qbench) -> None:
    pytest.importorskip("openvino")
    rows = qbench("bench", "m.onnx", "--providers", "cpu,openvino", "--quick", "--json").json[
        "rows"
    ]
    assert [(row["provider"], row["error"]) for row in rows] == [("cpu", None), ("openvino", None)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", "0"), "'0' is no list of numbers from 1 on; write 1,8"),
        (("--batch", "²"), "'²' is no list of numbers from 1 on; write 1,8"),
        (("--threads", "²"), "'²' is no list of numbers from 0 on; write 1,8"),
        (("--size", "²"), "'²' is no size; write 640, or 480x640"),
        (("--size", "9999999"), "'9999999' is no size; write 640, or 480x640"),
        (("--batch", "1,x"), "'1,x' is no list of numbers from 1 on; write 1,8"),
        (("--threads", "-1"), "'-1' is no list of numbers from 0 on; write 1,8"),
        (("--threads", "99999999999"), "a number of threads of 99999999999 is too large"),
        (("--batch", "99999999999"), "a batch size of 99999999999 is too large to measure"),
        (("--streams", "4"), "4 streams put calls in flight at the same time"),
        (("--mode", "paced"), "mode paced starts calls by the clock; add --rate 30"),
        (("--rate", "5"), "a rate of 5 calls a second needs --mode paced"),
    ],
)
def test_axes_that_cannot_be_measured(words: tuple[str, ...], message: str, qbench: Qbench) -> None:
    assert message in refused(qbench("bench", "m.onnx", *words, "--quick"), code=2)


def test_what_a_batch_breaks_is_a_row(save: SaveModel, qbench: Qbench) -> None:
    b = Builder(("N", 3, 8, 8))
    shape = b.constant("s", np.array([1, 192]))
    model = save(b.model(b.node("Reshape", "y", b.x, shape)))
    outcome = qbench("bench", model, "--batch", "1,2", "--quick")
    assert outcome.code == 0
    assert "fp32 cpu batch 2: the model does not run with a batch of 2" in outcome.out


def test_candidates_have_processes_of_their_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    opened = candidate.RemoteSession.__init__

    def note(self: candidate.RemoteSession, *arguments: object) -> None:
        started.append(self)
        opened(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(candidate.RemoteSession, "__init__", note)
    assert run(["bench", "m.onnx", "--threads", "1,2", "--quick"]) == 0
    assert len(started) == 2
    assert "baseline" in capsys.readouterr().out
