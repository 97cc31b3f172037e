"""A run with all that a report shows; its figures are made up."""

from dataclasses import replace

import numpy as np
from msgspec.structs import replace as replace_fields

from qbench.benchmarking.environment import Environment
from qbench.benchmarking.result import (
    Accuracy,
    Latency,
    OperatorTime,
    Ratio,
    Row,
    RunResult,
)
from qbench.benchmarking.stats import Interval, Verdict
from qbench.benchmarking.timing.settings import Settings
from qbench.report.contents import Contents, Layer
from qbench.runs.run import Run
from qbench.runtimes.gpu.devices import Gpu

ENVIRONMENT = Environment(
    cpu="Imaginary CPU @ 3 GHz",
    cores=8,
    core_quota=4.0,
    isa=("avx2", "vnni"),
    governor="performance",
    load_average=(0.5, 0.4, 0.3),
    os="Linux-6.1",
    python="3.12.1",
    versions={"qbench-onnx": "0.1.0", "onnxruntime": "1.31.1"},
    git_commit="0123456789abcdef",
    gpus=(Gpu("Imaginary GPU", "590.1", 8 << 30, "8.9", 1500, 2100),),
    time_utc="2026-01-02T03:04:05+00:00",
)

PROFILES = {
    "fp32": (
        OperatorTime("Conv", "float32", 0.81),
        OperatorTime("MatMul", "float32", 0.12),
        OperatorTime("Softmax", "float32", 0.07),
    ),
    "int8": (
        OperatorTime("QLinearConv", "int8", 0.62),
        OperatorTime("QLinearMatMul", "int8", 0.11),
        OperatorTime("Softmax", "float32", 0.17),
        OperatorTime("QuantizeLinear", None, 0.10),
    ),
}


def timed_row(
    precision: str,
    provider: str,
    speedup: float,
    verdict: Verdict,
    share: float,
    model: str = "net.onnx",
) -> Row:
    """Return a row that is `speedup` times as fast as 4 ms, right on a `share` of 500 images."""
    median, is_first = 4.0 / speedup, precision == "fp32" and provider == "cpu"
    ends = (1.0, 1.0) if is_first else (speedup * 0.985, speedup * 1.015)
    change = share - 0.912
    return Row(
        model=model,
        precision=precision,
        provider=provider,
        accuracy=Accuracy(
            "top1",
            share,
            500,
            share - 0.025,
            share + 0.022,
            None if is_first else Interval(change, change - 0.012, change + 0.009),
        ),
        latency_ms=Latency(median, 0.02, 0.95 * median, 1.1 * median, 1.2 * median),
        ratio=Ratio(speedup, *ends, verdict),
        throughput_per_s=1e3 / median,
        size_bytes=12_000_000 if precision == "fp32" else 3_500_000,
        peak_rss_bytes=250 << 20,
        load_seconds=0.12,
        first_inference_seconds=0.009,
        profile=PROFILES.get(precision, ()) if provider == "cpu" else (),
    )


def rows(model: str = "net.onnx") -> tuple[Row, ...]:
    """Return rows of several precisions and providers, one of which could not run."""
    return (
        timed_row("fp32", "cpu", 1.0, "same", 0.912, model),
        timed_row("fp16", "cpu", 0.84, "slower", 0.912, model),
        timed_row("int8", "cpu", 2.13, "faster", 0.904, model),
        timed_row("dynamic", "cpu", 1.003, "same", 0.908, model),
        timed_row("fp16", "cuda", 5.2, "faster", 0.912, model),
        timed_row("int8", "tensorrt", 9.8, "faster", 0.9, model),
        timed_row("int4", "tensorrt", 9.6, "inconclusive", 0.871, model),
        Row(
            model=model,
            precision="fp8",
            provider="tensorrt",
            error="FP8 needs a GPU of compute capability 8.9; this one has 8.6",
        ),
        Row(
            model=model,
            precision="int8",
            provider="tensorrt (simulated)",
            accuracy=Accuracy("top1", 0.9, 500, 0.87, 0.92, Interval(-0.012, -0.02, -0.002)),
            size_bytes=3_400_000,
            float_nodes={
                "/head/Softmax": "softmax stays float",
                "/neck/Concat": "boxes and scores share no scale",
                "/neck/Softmax": "softmax stays float",
            },
            notes=("computed with exact arithmetic",),
        ),
    )


def result_to_show(model: str = "net.onnx") -> RunResult:
    return RunResult(
        environment=ENVIRONMENT,
        settings=Settings(),
        rows=rows(model),
        control=Interval(1.002, 0.998, 1.006),
    )


def layers_to_show(count: int = 60, prefix: str = "/stage") -> tuple[Layer, ...]:
    random = np.random.default_rng(0)
    decay = 45 - 25 * np.sqrt(np.arange(count) / count) + random.normal(0, 3, count)
    decay[count // 3] = 6.5
    return tuple(
        Layer(f"{prefix}{i}/Conv_output_0", i + 1, float(db), float(1 - 10 ** (-db / 10)))
        for i, db in enumerate(decay)
    )


def contents_to_show(model: str = "net.onnx", prefix: str = "/stage") -> Contents:
    random = np.random.default_rng(0)
    result = result_to_show(model)
    samples = {
        i: row.latency_ms.median * 1e-3 * (0.97 + random.gamma(1.2, 0.03, 2000))
        for i, row in enumerate(result.rows)
        if row.latency_ms
    }
    return Contents(Run("20260102-030405", result, samples), layers_to_show(prefix=prefix))


HOSTILE = (
    "</script><script>window.hit = 1</script></text></svg><img src=x onerror='window.hit = 2'>\""
)
"""What a file may be called."""


def hostile_contents() -> Contents:
    """Return contents with markup in everything that comes from a file or a machine."""
    shown = contents_to_show(HOSTILE, prefix=HOSTILE)
    bad = [
        replace_fields(
            row,
            precision=f"{row.precision}{HOSTILE}",
            provider=f"{row.provider}{HOSTILE}",
            error=row.error and HOSTILE,
            notes=(HOSTILE,),
            float_nodes={HOSTILE: HOSTILE},
            profile=(OperatorTime(HOSTILE, HOSTILE, 1.0),),
        )
        for row in shown.result.rows
    ]
    environment = replace_fields(ENVIRONMENT, cpu=HOSTILE, os=HOSTILE, versions={HOSTILE: HOSTILE})
    result = replace_fields(shown.result, rows=tuple(bad), environment=environment)
    return replace(shown, run=replace(shown.run, id=HOSTILE, result=result))
