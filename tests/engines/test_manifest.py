import json

import msgspec
import pytest
from manifests import MANIFEST

from qbench.engines.manifest import manifest_path, read_manifest, write_manifest
from qbench.errors import EngineError


def test_round_trip(tmp_path):
    path = write_manifest(MANIFEST, tmp_path)
    assert path == tmp_path / "net.int8.json" == manifest_path(tmp_path / "net.int8.engine")
    assert read_manifest(tmp_path / "net.int8.engine") == MANIFEST
    assert json.loads(path.read_text())["schema_version"] == 2


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
    with pytest.raises(EngineError, match="has schema version 99, this qbench reads 2; take a new"):
        read_manifest(tmp_path / "net.int8.engine")


def test_a_manifest_of_the_first_version(tmp_path):
    (tmp_path / "net.json").write_text(
        '{"engine": "net.engine", "shapes": {}, "schema_version": 1}'
    )
    with pytest.raises(EngineError, match="has schema version 1, this qbench reads 2; build the"):
        read_manifest(tmp_path / "net.engine")


@pytest.mark.parametrize("field", ["engine", "onnx", "log"])
@pytest.mark.parametrize("name", ["../net.engine", "/etc/passwd", "", "..", "a/b"])
def test_a_manifest_names_files_beside_it_only(tmp_path, field, name):
    document = msgspec.to_builtins(MANIFEST) | {field: name}
    (tmp_path / "net.int8.json").write_bytes(msgspec.json.encode(document))
    with pytest.raises(EngineError, match="is not the name of a file beside it"):
        read_manifest(tmp_path / "net.int8.engine")


def test_a_manifest_without_profiles(tmp_path):
    write_manifest(msgspec.structs.replace(MANIFEST, profiles=()), tmp_path)
    with pytest.raises(
        EngineError, match=r"is not an engine manifest \(it has no profile\); build"
    ):
        read_manifest(tmp_path / "net.int8.engine")


def test_the_first_profile_is_the_default():
    assert MANIFEST.shapes == MANIFEST.profiles[0]
