from pathlib import Path

import graphs
import onnx
import pytest

from qbench.benchmarking import speedup
from qbench.benchmarking.speedup import by_operator, slow_parts, speedup_of
from qbench.benchmarking.timing.settings import Settings
from qbench.runtimes.base import OperatorTime

SHORT = Settings(min_rounds=6, max_rounds=6, block_seconds=1e-4, warmup_seconds=0.0)
FEEDS = graphs.feeds_of(graphs.model_of(graphs.residual()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(graphs.residual(), path)
    return path


def shares_of(monkeypatch: pytest.MonkeyPatch, **shares: float) -> None:
    profile = [OperatorTime(operator, None, share) for operator, share in shares.items()]
    monkeypatch.setattr(speedup, "profile_file", lambda *_, **__: profile)


def cpu_with(monkeypatch: pytest.MonkeyPatch, *, vnni: bool) -> None:
    monkeypatch.setattr(speedup, "adds_in_32_bits", lambda _: vnni)


def test_shares_of_an_operator_are_added_up_over_its_types() -> None:
    parts = [("Conv", "fp32", 0.3), ("Add", "fp32", 0.4), ("Conv", "fp16", 0.2), ("Mul", None, 0.1)]
    shares = by_operator(OperatorTime(*part) for part in parts)
    assert list(shares.items()) == [("Conv", 0.5), ("Add", 0.4), ("Mul", 0.1)]


def test_causes_are_named_from_a_tenth_of_the_time(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(monkeypatch, vnni=True)
    shares_of(
        monkeypatch,
        QLinearConv=0.31,
        Conv=0.3,
        QuantizeLinear=0.12,
        DequantizeLinear=0.1,
        QLinearMul=0.08,
        Transpose=0.09,
    )
    assert slow_parts(model, FEEDS) == (
        "30.0 % of INT8's time goes into Conv, Gemm or MatMul that stay float",
        "22.0 % of INT8's time goes into conversions between integers and floats",
    )


def test_other_operators_are_named_themselves(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a face detector (MTCNN) with a PRelu behind each convolution."""
    cpu_with(monkeypatch, vnni=True)
    shares_of(monkeypatch, PRelu=0.48, QLinearConv=0.31, NhwcMaxPool=0.04)
    assert slow_parts(model, FEEDS) == ("48.0 % of INT8's time goes into PRelu",)


def test_a_cpu_without_vnni_is_a_cause(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch, vnni=False)
    shares_of(monkeypatch, QLinearConv=1.0)
    assert slow_parts(model, FEEDS) == (
        "this CPU has no VNNI, so its integer products are little faster than float",
    )


def test_a_model_without_integer_kernels(model: Path) -> None:
    assert slow_parts(model, FEEDS, threads=1)[0] == "no operator runs on integers here"


def test_what_is_not_faster_is_explained(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbench.benchmarking.timing.schedule.verdict", lambda *_: "same")
    found = speedup_of(model, model, FEEDS, threads=1, settings=SHORT)
    assert found.verdict == "same"
    assert found.ratio.low <= found.ratio.value <= found.ratio.high
    assert found.reasons[0] == "no operator runs on integers here"


def test_nothing_needs_explaining_where_int8_is_faster(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbench.benchmarking.timing.schedule.verdict", lambda *_: "faster")
    assert speedup_of(model, model, FEEDS, threads=1, settings=SHORT).reasons == ()
