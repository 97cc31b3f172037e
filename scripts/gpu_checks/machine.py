"""What is on this machine, and what ONNX Runtime makes of it."""

from pathlib import Path

from gpu_checks.rows import Rows
from gpu_checks.work import PRECISIONS, Work

from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.environment import capture
from qbench.benchmarking.result import Row
from qbench.runtimes.cuda.choose import BACKENDS, open_cuda
from qbench.runtimes.gpu.watch import open_gpu_watch
from qbench.runtimes.ort.providers import preload_cuda
from qbench.runtimes.providers import probe_providers
from qbench.runtimes.tensorrt.flavour import find_flavour


def doctor(work: Work, rows: Rows) -> None:
    """Say which GPU, providers and TensorRT are here."""
    del work
    environment = capture()
    rows.add("cpu", f"{environment.cpu}, {environment.cores} cores", **environment.versions)
    for gpu in environment.gpus or ():
        rows.add("gpu", f"{gpu.name}, driver {gpu.driver}", memory_bytes=gpu.memory_bytes)
    if not environment.gpus:
        rows.fail("gpu", "nvidia-smi is missing or finds no GPU")
    for name in BACKENDS:
        with rows.about(name):
            cuda = open_cuda(name)
            device = cuda.device()
            cuda.close()
            text = f"{device.name}, {device.compute_capability}"
            rows.add(name, text, free_bytes=device.free_bytes, total_bytes=device.total_bytes)
    watch_gpu(rows)
    for problem in preload_cuda():
        rows.fail("CUDA libraries", problem)
    for name, refusal in probe_providers().items():
        if refusal is None:
            rows.add(f"provider {name}", "loads")
        else:
            rows.fail(f"provider {name}", refusal)
    for backend in ("tensorrt", "rtx"):
        with rows.about(f"engines {backend}"):
            rows.add(f"engines {backend}", str(find_flavour(backend)))


def watch_gpu(rows: Rows) -> None:
    """Say what would void a block of timings now."""
    watch = open_gpu_watch()
    if watch is None:
        rows.fail("watch", "NVML finds no GPU, or the package nvidia-ml-py is missing")
        return
    watch.before_block()
    reason = watch.after_block()
    rows.add("watch", reason or "nothing disturbs the GPU", sm_clocks_mhz=watch.sm_clocks_mhz)


def onnxruntime(work: Work, rows: Rows) -> None:
    """Compare accuracy and latency of every precision on the CPU and on the GPU."""
    with rows.about("onnxruntime"):
        _compare(work, rows, [work.onnx], PRECISIONS)


def engines(work: Work, rows: Rows) -> None:
    """Compare accuracy and latency of the engines with FP32 on the CPU."""
    paths: list[Path] = [path for _, path in work.engines(rows)]
    if paths:
        with rows.about("engines"):
            _compare(work, rows, [work.onnx, *paths], ("fp32",))


def _compare(work: Work, rows: Rows, models: list[Path], precisions: tuple[str, ...]) -> None:
    has_table = work.table_path.exists()
    result = benchmark(
        models,
        precisions=[p for p in precisions if p != "int8" or has_table],
        providers=("cpu", "cuda") if len(models) == 1 else ("cpu",),
        table=work.table() if has_table else None,
        images=work.images(),
        options=Options(settings=work.settings, cuda_backend=work.cuda_backend),
    )
    for row in result.rows:
        subject = f"{row.precision} {row.provider}"
        if row.error is not None:
            rows.fail(subject, row.error)
        else:
            rows.add(subject, _text(row), **_figures(row))


def _text(row: Row) -> str:
    parts = []
    if row.accuracy is not None:
        parts.append(f"{row.accuracy.metric} {row.accuracy.value:.4f} of {row.accuracy.n}")
    if row.latency_ms is not None:
        parts.append(f"{row.latency_ms.median:.3f} ms")
    if row.ratio is not None:
        parts.append(f"x{row.ratio.value:.2f}")
    return ", ".join((*parts, *row.notes))


def _figures(row: Row) -> dict[str, object]:
    return {"accuracy": row.accuracy, "latency_ms": row.latency_ms, "ratio": row.ratio}
