"""Put the fake where TensorRT would be, for this process and for those that it starts."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fake_trt.api import read_api
from fake_trt.module import fake_tensorrt
from qbench.engines import build

_TESTS = Path(__file__).parents[1]
_PACKAGE = """\
import sys

sys.path.append({tests!r})

from fake_trt.module import fake_tensorrt

sys.modules[__name__] = fake_tensorrt({version!r})
"""


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> ModuleType:
    """Let `import tensorrt`, or `tensorrt_rtx`, give the fake of `version`, and return it.

    Its package and metadata are written into `folder`, which goes onto the path of modules here
    and, by PYTHONPATH, in processes that the test starts. Whoever asks before a build whether there
    is a GPU for TensorRT itself is told of one.
    """
    api = read_api(version)
    package = folder / api.module
    package.mkdir(parents=True)
    source = _PACKAGE.format(tests=str(_TESTS), version=version)
    (package / "__init__.py").write_text(source, "utf-8")
    name = api.module.replace("_", "-")
    metadata = folder / f"{api.module}-{api.full_version}.dist-info"
    metadata.mkdir()
    stated = f"Metadata-Version: 2.1\nName: {name}\nVersion: {api.full_version}\n"
    (metadata / "METADATA").write_text(stated, "utf-8")
    (metadata / "top_level.txt").write_text(f"{api.module}\n", "utf-8")
    module = fake_tensorrt(version)
    if api.module == "tensorrt":
        monkeypatch.setattr(build, "current_gpu", lambda: "sm89")
    monkeypatch.setitem(sys.modules, api.module, module)
    monkeypatch.syspath_prepend(folder)
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(folder), *([inherited] if inherited else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return module
