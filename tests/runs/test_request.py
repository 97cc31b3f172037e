"""What a run is known by: files by their hashes, images by their names and sizes."""

from pathlib import Path

import graphs
import msgspec
import onnx
import pytest
import run_parts

from qbench.artifacts import sha256_files
from qbench.model.load import load
from qbench.runs.machine import machine_differences, software_differences
from qbench.runs.request import ModelFile, fingerprint, model_file


def test_a_model_has_the_hash_that_rows_name(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), path)
    found = model_file(path)
    assert (found.path, found.name, found.sha256) == (str(path), "m.onnx", load(path).sha256)


def _model() -> onnx.ModelProto:
    b = graphs.Builder((1, 3, 8, 8))
    return b.model(b.node("Relu", "y", b.x))


def test_an_engine_has_the_hash_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    assert model_file(path).sha256 == ""
    path.write_bytes(b"engine")
    assert model_file(path).sha256 == sha256_files([path])


@pytest.mark.parametrize(
    "changed",
    [
        {"cpu": "Another"},
        {"cores": 4},
        {"isa": ("avx2", "vnni")},
        {"gpus": (run_parts.GPU,)},
        {"versions": {"onnxruntime": "1.32.0"}},
    ],
)
def test_a_run_goes_on_only_on_the_same_machine(changed: dict[str, object]) -> None:
    asked, settings = run_parts.request(), run_parts.SETTINGS
    here, there = run_parts.ENVIRONMENT, run_parts.environment(**changed)
    assert asked.key(settings, here) != asked.key(settings, there)


def test_folders_are_part_of_the_key_where_they_are_part_of_names() -> None:
    def key(*paths: str) -> str:
        models = tuple(ModelFile(path, "aa") for path in paths)
        return run_parts.request(models=models).key(run_parts.SETTINGS, run_parts.ENVIRONMENT)

    assert key("/a/m.onnx") == key("/b/m.onnx")
    assert key("/a/m.onnx", "/b/m.onnx") != key("/c/m.onnx", "/d/m.onnx")


def test_what_changes_by_the_hour_is_no_part_of_the_key() -> None:
    asked, settings = run_parts.request(), run_parts.SETTINGS
    gpu = msgspec.structs.replace(run_parts.GPU, sm_clock_mhz=2000)
    here = run_parts.environment(gpus=(run_parts.GPU,))
    later = run_parts.environment(
        gpus=(gpu,), load_average=(9, 9, 9), git_commit="ab", time_utc="2026-11-26T08:00:00+00:00"
    )
    assert asked.key(settings, here) == asked.key(settings, later)
    longer = msgspec.structs.replace(settings, max_seconds=1.0)
    assert asked.key(settings, here) != asked.key(longer, here)


def test_images_count_by_name_and_size_and_texts_by_content(tmp_path: Path) -> None:
    images, labels = tmp_path / "imgs" / "cat", tmp_path / "labels.csv"
    images.mkdir(parents=True)
    (images / "a.png").write_bytes(b"12")
    labels.write_text("a.png,0")
    before = fingerprint(images.parent, labels)
    (images / "a.png").write_bytes(b"34")
    assert fingerprint(images.parent, labels) == before
    labels.write_text("a.png,1")
    assert fingerprint(images.parent, labels) != before
    labels.write_text("a.png,0")
    (images / "a.png").rename(images / "b.png")
    assert fingerprint(images.parent, labels) != before
    assert fingerprint(None, None) is None


def test_arrays_and_masks_count_by_content(tmp_path: Path) -> None:
    """Other values of the same shape are as many bytes."""
    for data, labels in (("d.npz", None), ("imgs", "masks")):
        changed = tmp_path / (f"{labels}/a.png" if labels else data)
        changed.parent.mkdir(exist_ok=True)
        places = tmp_path / data, tmp_path / labels if labels else None
        changed.write_bytes(b"12")
        before = fingerprint(*places)
        changed.write_bytes(b"34")
        assert fingerprint(*places) != before


def test_images_behind_links_count_and_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    other.mkdir()
    (data / "cat").symlink_to(other)
    (data / "caf\udce9.txt").touch()
    before = fingerprint(data)
    (other / "a.png").touch()
    assert fingerprint(data) != before


def test_differences_between_machines_are_told_in_words() -> None:
    before = run_parts.environment(isa=None)
    after = run_parts.environment(cores=8, gpus=(run_parts.GPU,), isa=())
    assert machine_differences(before, after) == (
        "cores 2 then, 8 now",
        "ISA unknown then, none now",
        "GPU unknown then, RTX 4090 with driver 560.1 now",
    )
    assert machine_differences(before, before) == ()


def test_other_software_is_no_other_machine() -> None:
    after = run_parts.environment(versions={"onnxruntime": "1.32.0", "numpy": "2.4"})
    assert machine_differences(run_parts.ENVIRONMENT, after) == ()
    assert software_differences(run_parts.ENVIRONMENT, after) == (
        "onnxruntime 1.31.1 then, 1.32.0 now",
        "numpy unknown then, 2.4 now",
    )
