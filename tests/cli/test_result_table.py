import io

import msgspec
from rich.console import Console

from qbench.benchmarking import environment
from qbench.benchmarking.result import Accuracy, Latency, Ratio, Row, RunResult
from qbench.benchmarking.settings import Settings
from qbench.cli.result_table import result_table


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
