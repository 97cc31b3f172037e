"""Engines: built, compared with ONNX Runtime, and timed in every way that qbench runs them."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from gpu_checks.rows import Rows
from gpu_checks.work import PRECISIONS, Work, feeds_for
from loop_overhead import Call, random_feeds

from qbench.benchmarking.timing.schedule import measure
from qbench.engines.build import EngineOptions, build_engine
from qbench.engines.manifest import read_manifest
from qbench.runtimes.ort.runner import OrtRunner

STREAMS = (1, 2, 4)

_SAMPLES = 16
_NAMED = 3


def build(work: Work, rows: Rows, backend: str) -> None:
    """Build an engine in every precision."""
    for precision in PRECISIONS:
        subject = f"{backend} {precision}"
        with rows.about(subject):
            options = EngineOptions(backend=backend, folder=work.folder / "engines" / backend)
            table = work.table() if precision == "int8" else None
            engine = build_engine(work.onnx, precision=precision, table=table, options=options)
            manifest = engine.manifest
            layers = ", ".join(f"{n} {dtype}" for dtype, n in manifest.layers_by_dtype.items())
            size = f"{manifest.seconds:.1f} s, {manifest.size_bytes / 1e6:.1f} MB"
            rows.add(
                subject,
                f"{size}; layers: {layers or 'not told'}",
                seconds=manifest.seconds,
                size_bytes=manifest.size_bytes,
                layers_by_dtype=manifest.layers_by_dtype,
                targets=manifest.targets,
            )


def parity(work: Work, rows: Rows) -> None:
    """Compare what each engine computes with its own ONNX file in exact arithmetic on the CPU."""
    for name, path in work.engines(rows):
        with rows.about(name), work.open(path) as runner:
            reference = OrtRunner(path.with_name(read_manifest(path).onnx), simulate=True)
            worst, agree, same = 0.0, 1.0, 0
            for feeds in feeds_for(runner, _SAMPLES):
                wanted = reference.run(feeds)
                for output, array in runner.run(feeds).items():
                    right, found = wanted[output].astype(np.float64), array.astype(np.float64)
                    worst = max(worst, float(np.max(np.abs(found - right), initial=0)))
                    agree = min(agree, _cosine(found, right))
                    same += int(np.array_equal(found.argmax(-1), right.argmax(-1)))
            count = _SAMPLES * len(reference.outputs)
            rows.add(
                name,
                f"max |difference| {worst:.2g}, cosine {agree:.6f}, argmax {same}/{count}",
                max_difference=worst,
                least_cosine=agree,
                same_argmax=same,
                outputs=count,
            )


def graphs(work: Work, rows: Rows) -> None:
    """Time each engine with a CUDA graph and without."""
    for name, path in work.engines(rows):
        with rows.about(name), work.open(path) as runner, _warnings() as warned:
            feeds = feeds_for(runner)[0]
            seen = measure((runner.bind(feeds), runner.bind(feeds, graph=True)), work.settings)
            plain, graph = (1e6 * float(np.median(samples)) for samples in seen.samples)
            ratio = seen.ratios[1]
            text = f"{plain:.1f} us, with a graph {graph:.1f} us, x{ratio.value:.3f}"
            rows.add(
                name,
                "; ".join((text, *warned)),
                plain_us=plain,
                graph_us=graph,
                ratio=[ratio.value, ratio.low, ratio.high],
                captured=not warned,
            )


def streams(work: Work, rows: Rows) -> None:
    """Time each engine on one and on several streams at once."""
    for name, path in work.engines(rows):
        with rows.about(name), work.open(path) as runner:
            feeds = feeds_for(runner)[0]
            calls = [runner.bind(feeds, streams=count) for count in STREAMS]
            seen = measure(calls, work.settings)
            rates = [
                count / float(np.median(samples))
                for count, samples in zip(STREAMS, seen.samples, strict=True)
            ]
            texts = [f"{rate:.0f}" for rate in rates]
            rows.add(
                name,
                f"{', '.join(texts)} images/s on {', '.join(map(str, STREAMS))} streams",
                images_per_s=dict(zip(map(str, STREAMS), rates, strict=True)),
            )


def overhead(work: Work, rows: Rows) -> None:
    """Compare our calls with the runtime's own on the same data, one at a time."""
    for provider in ("cpu", "cuda"):
        name = f"onnxruntime {provider}"
        with rows.about(name), closing(OrtRunner(work.onnx, provider=provider)) as session:
            feeds = random_feeds(session.inputs, work.side())
            run, binding = session.bind_bare(feeds)
            _add_overhead(work, rows, name, partial(run, binding), session.bind(feeds))
    for name, path in work.engines(rows):
        with rows.about(name), work.open(path) as runner:
            feeds = feeds_for(runner)[0]
            _add_overhead(work, rows, name, runner.bind_bare(feeds), runner.bind(feeds))


def _add_overhead(work: Work, rows: Rows, name: str, bare: Call, ours: Call) -> None:
    seen = measure((bare, ours), work.settings)
    micros, ratio = 1e6 * float(np.median(seen.samples[0])), seen.ratios[1]
    value, least, most = (micros * (1 / r - 1) for r in (ratio.value, ratio.high, ratio.low))
    rows.add(
        name,
        f"{value:+.2f} us a call over {micros:.1f} us ({least:+.2f} to {most:+.2f})",
        bare_us=micros,
        overhead_us=value,
        interval_us=[least, most],
        trusted=seen.trusted,
    )


def phases(work: Work, rows: Rows) -> None:
    """Time the way in, the inference and the way out with events on the device."""
    for name, path in work.engines(rows):
        with rows.about(name), work.open(path) as runner:
            found = runner.phases(feeds_for(runner)[0])
            micros = {
                "h2d_us": 1e6 * found.h2d,
                "compute_us": 1e6 * found.compute,
                "d2h_us": 1e6 * found.d2h,
            }
            words = zip(("in", "compute", "out"), micros.values(), strict=True)
            rows.add(name, ", ".join(f"{word} {us:.1f} us" for word, us in words), **micros)


def profile(work: Work, rows: Rows) -> None:
    """Say what takes each engine's time, in which types, and how much memory it holds."""
    for name, path in work.engines(rows):
        with rows.about(name), work.open(path) as runner:
            found = runner.profile(feeds_for(runner)[0])
            largest = [f"{p.operator} {p.type} {p.share:.0%}" for p in found[:_NAMED]]
            memory = runner.device_memory_bytes
            size = "unknown memory" if memory is None else f"{memory / 1e6:.1f} MB on the GPU"
            rows.add(
                name,
                "; ".join((*largest, size)),
                shares=[[p.operator, p.type, p.share] for p in found],
                device_memory_bytes=memory,
            )


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what qbench warns of meanwhile."""
    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("qbench")
    logger.addHandler(handler)
    try:
        yield warned
    finally:
        logger.removeHandler(handler)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / length if length else float(np.array_equal(a, b))


def engine_shapes(path: Path) -> str:
    """Return the usual shapes of an engine's inputs as trtexec takes them."""
    shapes = read_manifest(path).shapes
    return ",".join(f"{name}:{'x'.join(map(str, found.opt))}" for name, found in shapes.items())
