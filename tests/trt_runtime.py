"""A fake TensorRT on a GPU whose memory is the host's, for tests that run engines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_trt
import onnx
import pytest
from fake_trt.plan import Plan, Range, to_bytes
from host_cuda import HostCuda

from qbench.runtimes.cuda.choose import BACKENDS
from qbench.runtimes.tensorrt.flavour import Flavour, flavour_named
from qbench.runtimes.tensorrt.runner import TensorRtRunner


@dataclass
class FakeGpu:
    """What a test sees of it.

    Attributes:
        folder: Where its files lie.
        module: The fake TensorRT.
        cuda: The GPU.
        flavour: The TensorRT as qbench finds it.
        runs: For each inference, the context that ran it and the stream.
        switches: Profiles that contexts were switched to.
    """

    folder: Path
    module: ModuleType
    cuda: HostCuda
    flavour: Flavour
    runs: list[tuple[Any, int]] = field(default_factory=list)
    switches: list[int] = field(default_factory=list)

    def write_engine(
        self,
        path: Path,
        model: onnx.ModelProto,
        profiles: tuple[Mapping[str, Range], ...] = (),
        formats: Mapping[str, str] | None = None,
        flags: tuple[str, ...] = (),
        verbosity: str = "DETAILED",
    ) -> Path:
        """Write an engine of `model`, with these profiles of its dynamic inputs."""
        plan = Plan(
            module=self.module.__name__,
            version=self.module.__version__,
            model=model.SerializeToString(),
            profiles=[dict(profile) for profile in profiles],
            flags=list(flags),
            verbosity=verbosity,
            formats=dict(formats or {}),
        )
        path.write_bytes(to_bytes(plan))
        return path

    def open(
        self,
        model: onnx.ModelProto,
        profiles: tuple[Mapping[str, Range], ...] = (),
        **options: Any,
    ) -> TensorRtRunner:
        """Return the runner of an engine, `m.engine`; for options see `write_engine`."""
        engine = self.write_engine(self.folder / "m.engine", model, profiles, **options)
        return TensorRtRunner(engine, self.flavour)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str = "10.12") -> FakeGpu:
    """Let the fake of `version` be TensorRT, and the host's memory that of the GPU."""
    module, cuda = fake_trt.install(monkeypatch, folder / "site", version), HostCuda()
    monkeypatch.setitem(BACKENDS, "cuda-bindings", lambda: cuda)
    gpu = FakeGpu(folder, module, cuda, flavour_named(module.__name__))
    context: Any = module.IExecutionContext
    execute, switch = context.execute_async_v3, context.set_optimization_profile_async

    def execute_async_v3(self: Any, stream_handle: int) -> bool:
        gpu.runs.append((self, stream_handle))
        return bool(execute(self, stream_handle))

    def set_optimization_profile_async(self: Any, profile_index: int, stream_handle: int) -> bool:
        gpu.switches.append(profile_index)
        return bool(switch(self, profile_index, stream_handle))

    monkeypatch.setattr(context, "execute_async_v3", execute_async_v3)
    monkeypatch.setattr(context, "set_optimization_profile_async", set_optimization_profile_async)
    return gpu
