import sys
from enum import IntEnum
from importlib import metadata, util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from qbench.errors import UnfitError, UsageError
from qbench.runtimes.tensorrt.flavour import (
    Flavour,
    find_flavour,
    flavour_named,
    import_flavour,
    strongly_typed_network,
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let exactly the named modules be installed, as packages that fail when they are imported."""

    def only(*modules: str) -> None:
        root = tmp_path / "site"
        for module in modules:
            (root / module).mkdir(parents=True)
            (root / module / "__init__.py").write_text("raise ImportError('no libnv\\nhere')")
        specs = {
            module: util.spec_from_file_location(module, root / module / "__init__.py")
            for module in modules
        }
        monkeypatch.setattr(util, "find_spec", specs.get)
        monkeypatch.setattr(
            metadata,
            "packages_distributions",
            lambda: {module: [f"{module}-dist"] for module in modules},
        )
        monkeypatch.setattr(
            metadata, "version", {f"{module}-dist": "9.8.7" for module in modules}.__getitem__
        )
        monkeypatch.syspath_prepend(root)
        for module in modules:
            monkeypatch.delitem(sys.modules, module, raising=False)

    return only


def test_auto_prefers_tensorrt(install):
    install("tensorrt", "tensorrt_rtx")
    assert find_flavour() == Flavour("tensorrt", "9.8.7")
    assert find_flavour("rtx") == Flavour("tensorrt_rtx", "9.8.7")


def test_auto_takes_rtx_where_there_is_nothing_else(install):
    install("tensorrt_rtx")
    assert str(find_flavour("auto")) == "TensorRT for RTX 9.8.7"


def test_finding_does_not_import(install):
    install("tensorrt_rtx")
    find_flavour()
    assert "tensorrt_rtx" not in sys.modules


def test_nothing_installed_names_both_ways(install):
    install()
    with pytest.raises(
        UnfitError,
        match=r"^neither TensorRT nor .* installed; run .*--extra rtx`.*; or .*--extra tensorrt`",
    ):
        find_flavour()


def test_missing_backend_names_its_own_way(install):
    install("tensorrt_rtx")
    with pytest.raises(
        UnfitError, match=r"^TensorRT is not installed; run `uv sync --extra tensorrt`"
    ):
        find_flavour("tensorrt")


def test_a_flavour_by_the_name_of_its_module(install):
    install("tensorrt_rtx")
    assert flavour_named("tensorrt_rtx") == Flavour("tensorrt_rtx", "9.8.7")
    with pytest.raises(UnfitError, match="TensorRT is not installed"):
        flavour_named("tensorrt")
    with pytest.raises(UsageError, match="unknown TensorRT flavour 'rtx'; choose from tensorrt, "):
        flavour_named("rtx")


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UnfitError, match="TensorRT is not installed"):
        find_flavour("tensorrt")


def test_unknown_backend():
    with pytest.raises(UsageError, match="unknown backend 'trt'; choose from auto, tensorrt, rtx"):
        find_flavour("trt")


def test_broken_installation_is_one_line(install):
    install("tensorrt_rtx")
    with pytest.raises(
        UnfitError, match=r"TensorRT for RTX 1\.7 cannot be loaded: no libnv here; reinstall"
    ):
        import_flavour(Flavour("tensorrt_rtx", "1.7"))


@pytest.mark.parametrize("bit", [0, 1])
def test_strong_typing_takes_the_bit_from_the_module(bit):
    module = ModuleType("tensorrt")
    module.NetworkDefinitionCreationFlag = IntEnum("Flag", {"STRONGLY_TYPED": bit})
    builder = SimpleNamespace(create_network=lambda flags: flags)
    assert strongly_typed_network(module, builder) == 1 << bit


def test_no_strong_typing():
    module = ModuleType("tensorrt")
    module.__version__ = "8.6.1"
    module.NetworkDefinitionCreationFlag = IntEnum("Flag", {"EXPLICIT_BATCH": 0})
    with pytest.raises(UnfitError, match=r"tensorrt 8\.6\.1 has no strongly typed networks"):
        strongly_typed_network(module, SimpleNamespace())
