import pytest

from qbench.engines.compiling.features import Compilation
from qbench.engines.compiling.io_formats import (
    FORMATS,
    check_float_formats,
    parse_formats,
    set_formats,
)
from qbench.errors import UsageError

from ..conftest import MakeCompilation


def test_parse() -> None:
    parsed = parse_formats(["x=hwc8, a=b=chw+chw32", "y=hwc"])
    assert parsed == {"x": ("hwc8",), "a=b": ("chw", "chw32"), "y": ("hwc",)}
    assert parse_formats([]) == {}


@pytest.mark.parametrize("text", ["", "x", "=hwc8", "hwc8"])
def test_malformed(text: str) -> None:
    with pytest.raises(UsageError, match=r"malformed --io-formats '.*'; write NAME=hwc or NAME="):
        parse_formats([text])


@pytest.mark.parametrize("text", ["x=", "x=fp16:chw", "x=chw+"])
def test_unknown_layout(text: str) -> None:
    with pytest.raises(UsageError, match=r"unknown format '.*' of 'x'; choose from chw, chw2, chw"):
        parse_formats([text])


def test_a_tensor_twice() -> None:
    with pytest.raises(UsageError, match="'x' has two --io-formats; join them: x=chw"):
        parse_formats(["x=chw,x=hwc8"])


def test_fp32_has_few_layouts() -> None:
    formats = parse_formats(["x=hwc8+hwc16", "y=chw+hwc8", "z=hwc8"])
    check_float_formats(formats, ["y", "other"])
    with pytest.raises(
        UsageError, match=r"x=hwc8\+hwc16 needs 16 .*; add --fp16 --no-keep-io, .* chw, chw32, hwc,"
    ):
        check_float_formats(formats, ["y", "x"])


def test_no_such_tensor(compilation: MakeCompilation) -> None:
    with pytest.raises(UsageError, match="the model has no input or output 'z'; it has x, y"):
        set_formats(Compilation(*compilation("10.3")), {"z": ("chw",)})


def test_the_real_module_knows_every_layout() -> None:
    module = pytest.importorskip("tensorrt_rtx")
    assert [name for name in FORMATS.values() if not hasattr(module.TensorFormat, name)] == []
