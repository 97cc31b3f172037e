import io

import msgspec
import pytest
from rich.console import Console

from qbench.benchmarking import environment
from qbench.benchmarking.result import Accuracy, Figure, Latency, Ratio, Row, RunResult
from qbench.benchmarking.settings import Settings
from qbench.benchmarking.stats import Interval
from qbench.cli.render import digits
from qbench.cli.result_table import footnotes, result_table


def test_the_widest_rows_fit_80_columns() -> None:
    """Every column has its longest text at once: no cell may wrap or push past the edge."""
    widest = Row(
        model="m.onnx",
        precision="weight-only",
        provider="tensorrt (simulated)",
        accuracy=Accuracy("top1", 1.0, 600, 0.99, 1.0),
        latency_ms=Latency(median=123.456, mad=1.0, min=99.0, p90=None),
        ratio=Ratio(12.345, 11.234, 13.456, "inconclusive"),
        size_bytes=987 << 20,
    )
    rows = (msgspec.structs.replace(widest, precision="fp32"), widest)
    result = RunResult(environment=environment.capture(), settings=Settings(), rows=rows)
    out = io.StringIO()
    Console(file=out, width=200).print(result_table(result))
    lines = out.getvalue().splitlines()
    assert max(map(len, (line.rstrip() for line in lines))) <= 80
    assert lines[2].split()[-5:] == ["12.3", "[11.2,", "13.5]", "inconclusive", "987.0"]


def test_every_further_figure_has_a_line() -> None:
    def row(precision: str, *figures: Figure) -> Row:
        accuracy = Accuracy("top1_agreement", 1.0, 60, 0.9, 1.0, others=figures)
        return Row(model="m.onnx", precision=precision, provider="cpu", accuracy=accuracy)

    cosine, sqnr = Figure("cosine", 0.98765, 0.9, 1.0), Figure("sqnr_db", 21.26, 20.0, 22.0)
    top5 = Figure("top5", 0.875, 0.8, 0.9)
    rows = (
        row("fp32", cosine),
        row("int8", cosine, sqnr, top5),
        Row(model="m.onnx", precision="fp16", provider="cuda"),
    )
    result = RunResult(environment=environment.capture(), settings=Settings(), rows=rows)
    assert footnotes(result)[1:] == [
        "accuracy: the same class first as with FP32 on 60 images, 95 % interval about +-5.0 %",
        "cosine with FP32: fp32 cpu 0.9877, int8 cpu 0.9877",
        "SQNR in dB: int8 cpu 21.3",
        "top5: int8 cpu 87.5 %",
    ]


def test_a_cosine_is_no_percentage() -> None:
    first = Accuracy("cosine", 1.0, 60, 1.0, 1.0)
    second = Accuracy("cosine", 0.98765, 60, 0.987, 0.989, Interval(-0.0123, -0.013, -0.011))
    rows = tuple(
        Row(model="m.onnx", precision=precision, provider="cpu", accuracy=accuracy)
        for precision, accuracy in (("fp32", first), ("int8", second))
    )
    result = RunResult(environment=environment.capture(), settings=Settings(), rows=rows)
    assert footnotes(result)[1:] == [
        "accuracy: cosine with FP32 on 60 images, 95 % interval about +-0.0010",
        "accuracy minus that of the first row: int8 cpu -0.0123 [-0.0130, -0.0110]",
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(result_table(result))
    assert out.getvalue().splitlines()[2].split()[:3] == ["int8", "cpu", "0.9877"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0312, "0.03"), (1.5, "1.50"), (-9.5, "-9.50"), (12.34, "12.3"), (4321.6, "4322")],
)
def test_digits(value: float, text: str) -> None:
    assert digits(value) == text
