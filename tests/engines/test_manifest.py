import json

import msgspec
import pytest

from qbench.engines.manifest import (
    EngineManifest,
    Source,
    manifest_path,
    read_manifest,
    write_manifest,
)
from qbench.engines.profiles import ShapeRange
from qbench.errors import EngineError

MANIFEST = EngineManifest(
    engine="net.int8.engine",
    sha256="ab" * 32,
    flavour="tensorrt_rtx",
    flavour_version="1.7",
    targets=("sm86", "sm89"),
    precision="int8",
    shapes={"x": ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))},
    model=Source("models/net.onnx", "cd" * 32),
    quantized_sha256="ef" * 32,
    table_sha256=None,
    seconds=1.5,
    size_bytes=100,
    layers_by_dtype={"Int8": 3, "Float": 4},
    int8_conv_fraction=1.0,
    created="2026-01-02T03:04:05Z",
    versions={"onnx": "1.23"},
)


def test_round_trip(tmp_path):
    path = write_manifest(MANIFEST, tmp_path)
    assert path == tmp_path / "net.int8.json" == manifest_path(tmp_path / "net.int8.engine")
    assert read_manifest(tmp_path / "net.int8.engine") == MANIFEST
    assert json.loads(path.read_text())["schema_version"] == 1


def test_missing(tmp_path):
    with pytest.raises(
        EngineError, match=r"no manifest .*net\.json \(No such file.*qbench build-trt"
    ):
        read_manifest(tmp_path / "net.engine")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00", '{"engine": 3}', "caf\xe9"])
def test_foreign(tmp_path, text):
    (tmp_path / "net.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(EngineError, match=r"net\.json is not an engine manifest \(.*\); build"):
        read_manifest(tmp_path / "net.engine")


def test_other_schema(tmp_path):
    write_manifest(msgspec.structs.replace(MANIFEST, schema_version=99), tmp_path)
    with pytest.raises(EngineError, match="has schema version 99, this qbench reads 1"):
        read_manifest(tmp_path / "net.int8.engine")
