"""How a comparison of two runs looks."""

import pytest

from qbench.cli.output.compare_table import print_comparison
from qbench.runs.comparing.changes import AccuracyChange, Comparison, RowChange, SpeedChange


def compared(*rows: RowChange) -> Comparison:
    return Comparison(
        before="bcdfgh",
        after="jklmnp",
        together=False,
        trusted=True,
        machine=(),
        software=(),
        rows=rows,
        only_before=(),
        only_after=(),
    )


def changed(metric: str, value: float, **known: object) -> AccuracyChange:
    return AccuracyChange(  # type: ignore[arg-type]
        metric=metric, before=value, after=value - 0.05, difference=-0.05, **known
    )


def printed(capsys: pytest.CaptureFixture[str], *rows: RowChange, **options: str) -> str:
    print_comparison(compared(*rows), **options)
    return " ".join(capsys.readouterr().out.split())


def test_further_figures_stand_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    paired = changed("top5", 0.95, ci_low=-0.08, ci_high=-0.02, verdict="worse")
    plain = changed("sqnr_db", 20.0)
    accuracy = AccuracyChange(
        metric="top1", before=0.85, after=0.85, difference=0.0, others=(paired, plain)
    )
    labels = ("m.onnx int8 cpu", "m.onnx int8 cpu batch 8")  # judged once for both
    text = printed(
        capsys, *(RowChange(model="m.onnx", label=label, accuracy=accuracy) for label in labels)
    )
    rows = "int8 cpu, int8 cpu batch 8"
    assert f"top-5, and its change in points: {rows} 90.0 % -5.0 [-8.0, -2.0] worse" in text
    assert f"SQNR in dB, and its change: {rows} 19.9 -0.1" in text


def test_a_cosine_is_no_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    cosine = changed("cosine", 0.99, ci_low=-0.06, ci_high=-0.04)
    text = printed(capsys, RowChange(model="m.onnx", label="m.onnx int8 cpu", accuracy=cosine))
    assert "0.9400 -0.0500 [-0.0600, -0.0400]" in text


def test_two_sessions_are_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    speed = SpeedChange(basis="time", before=2.0, after=2.0, ratio=1.0)
    row = RowChange(model="m.onnx", label="m.onnx int8 cpu", speed=speed)
    text = printed(capsys, row)
    assert text.endswith("to measure both in one, bench both with `qbench bench --baseline`")
    assert printed(capsys, row, remedy="").endswith("wider by what these may differ")


def test_it_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "efficientnet_lite0.onnx"
    speed = SpeedChange(
        basis="time",
        before=123.4,
        after=123.4,
        ratio=123.4,
        ci_low=111.1,
        ci_high=133.3,
        verdict="inconclusive",
    )
    worst = changed("top1", 1.0, ci_low=-0.123, ci_high=-0.111, verdict="worse")
    load = "weight-only tensorrt batch 128 16 threads 8 streams"
    rows = [
        RowChange(model=model, label=f"{model} {load}", accuracy=worst, speed=speed)
        for model in (name, f"other_{name}")
    ]
    print_comparison(compared(*rows))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)
    assert sum("inconclusive" in line for line in lines) == 2
    assert sum("[-12.3, -11.1]" in line and "[111.1, 133.3]" in line for line in lines) == 2
    assert not [line for line in lines if line != line.rstrip()]


def test_where_all_fits_a_row_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    speed = SpeedChange(
        basis="time", before=2.0, after=1.0, ratio=2.0, ci_low=1.9, ci_high=2.1, verdict="faster"
    )
    print_comparison(compared(RowChange(model="m.onnx", label="m.onnx int8 cpu", speed=speed)))
    assert "1.00  2.00 [1.90, 2.10]  faster" in capsys.readouterr().out
