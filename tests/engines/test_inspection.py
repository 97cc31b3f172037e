"""The audit of TensorRT's own engines, which are looked into where they are built."""

from pathlib import Path
from types import ModuleType

import fake_trt
import graphs
import onnx
import pytest

from qbench.engines.build import Engine, EngineOptions, build_engine
from qbench.model.load import load

VERSIONS = [version for version in fake_trt.versions() if not version.startswith("rtx")]


def built(folder: Path) -> Engine:
    onnx.save(graphs.residual(), folder / "m.onnx")
    model = load(folder / "m.onnx")
    options = EngineOptions(backend="tensorrt", folder=folder / "engines")
    return build_engine(model, table=graphs.table_of(model), options=options)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_tells_what_runs_in_int8(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_trt.install(monkeypatch, tmp_path / "site", version)
    engine = built(tmp_path)
    assert engine.audit is not None
    assert engine.manifest.int8_conv_fraction == 1
    assert engine.manifest.layers_by_dtype["Int8"] >= 2


@pytest.fixture
def odd_inspector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A TensorRT whose inspector prints no JSON, in the process that builds, too."""
    module = fake_trt.install(monkeypatch, tmp_path / "site", "11.4")
    package = tmp_path / "site" / "tensorrt" / "__init__.py"
    odd = "sys.modules[__name__].EngineInspector.get_engine_information = lambda *_: 'layers: 3'\n"
    package.write_text(package.read_text() + odd)
    return module


@pytest.mark.usefixtures("odd_inspector")
def test_an_inspector_that_talks_nonsense_costs_the_audit_and_not_the_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = built(tmp_path)
    assert engine.path.exists()
    assert engine.audit is None
    assert "the engine inspector printed no JSON" in caplog.text
