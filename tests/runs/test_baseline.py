"""When an older run is measured again, and when its figures are taken as they were kept."""

from dataclasses import replace
from pathlib import Path

import graphs
import onnx
import pytest
import run_parts
from run_parts import ratio, row

from qbench.artifacts import sha256_files
from qbench.model.load import load
from qbench.runs.baseline import Baseline, plan_baseline
from qbench.runs.request import ModelFile, model_file
from qbench.runs.run import Run

OWN = "the hash of the table that is there"
NEW = (ModelFile("/models/new.onnx", "new"),)


def save(path: Path, name: str = "y") -> ModelFile:
    b = graphs.Builder((1, 3, 8, 8))
    onnx.save(b.model(b.node("Relu", name, b.conv("conv", b.x, cin=3))), path)
    return model_file(path)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    monkeypatch.chdir(tmp_path)
    return save(tmp_path / "old.onnx")


def of(*models: ModelFile) -> Run:
    return replace(run_parts.run(row()), request=run_parts.request(models=models))


def test_models_that_are_still_there_are_measured_again(old: ModelFile) -> None:
    found = plan_baseline(of(old, old), NEW, ["fp32"])
    assert found.models == (old,)
    assert found.paths == [Path(old.path)]
    assert found.reason == "the models of bcdfgh, measured again beside the new ones"


def test_a_model_that_is_gone_or_has_changed_is_not(old: ModelFile) -> None:
    run = of(old)
    save(Path(old.path), "other")
    changed = plan_baseline(run, NEW, ["fp32"])
    assert changed.models == ()
    kept = "the figures of bcdfgh as they were kept"
    assert changed.reason == f"{kept}: {old.path} has changed"
    assert changed.remedy == "keep older and newer model under names of their own"
    Path(old.path).unlink()
    gone = plan_baseline(run, NEW, ["fp32"])
    assert (gone.reason, gone.remedy) == (f"{kept}: {old.path} is gone", "put it back")


@pytest.mark.usefixtures("old")
def test_an_engine_that_was_not_there_even_then_is_not_measured_again() -> None:
    missing = ModelFile("/models/gone.engine", "")
    assert model_file(Path(missing.path)) == missing
    assert plan_baseline(of(missing), NEW, ["fp32"]).models == ()


def test_the_same_file_under_other_software_is_not_measured_twice(old: ModelFile) -> None:
    found = plan_baseline(of(old), [old], ["fp32"])
    assert (found.models, found.reason[-28:]) == ((), "old.onnx is the same file now"[-28:])


def test_int8_needs_the_calibration_of_the_old_model(old: ModelFile) -> None:
    found = plan_baseline(of(old), NEW, ["int8"])
    assert found.models == ()
    assert found.reason.endswith("no calibration table of old.onnx is in calibration")
    graphs.table_of(load(Path(old.path))).save(Path("calibration/old.json"))
    assert plan_baseline(of(old), NEW, ["int8"]).models == (old,)


def test_fp16_does_without_a_calibration_unless_one_was_used(old: ModelFile) -> None:
    assert plan_baseline(of(old), NEW, ["fp16"]).models == (old,)
    run = replace(
        of(old), request=run_parts.request(models=(old,), options={"tables": {"old": "gone"}})
    )
    assert plan_baseline(run, NEW, ["fp16"]).models == ()
    assert plan_baseline(run, NEW, ["fp32"]).models == (old,)


@pytest.mark.parametrize(
    ("tables", "is_again"),
    [
        ({}, True),  # the older run needed none
        ({"old": OWN}, True),
        ({"old": "other"}, False),
        ({"old": OWN, "given": "other"}, False),  # it was given another one
        ({"given": OWN}, True),
    ],
)
def test_the_calibration_must_be_the_one_that_was_used(
    tables: dict[str, str], is_again: bool, old: ModelFile
) -> None:
    table = Path("calibration/old.json")
    graphs.table_of(load(Path(old.path))).save(table)
    own = sha256_files([table])
    options = {"tables": {name: own if used == OWN else used for name, used in tables.items()}}
    run = replace(of(old), request=run_parts.request(models=(old,), options=options))
    found = plan_baseline(run, NEW, ["int8"])
    assert (found.models == (old,)) is is_again
    if not is_again:
        assert found.reason.endswith("old.json is not the table that was used of old.onnx")


def test_a_document_names_no_files() -> None:
    run = replace(run_parts.run(row()), request=None)
    found = plan_baseline(run, NEW, ["fp32"])
    assert (
        found.reason == "the figures of bcdfgh as they were kept: a document names no model files"
    )


def test_an_engine_needs_no_calibration(tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"engine")
    engine = model_file(path)
    assert plan_baseline(of(engine), NEW, ["int8"]).models == (engine,)


def test_what_was_measured_again_is_compared_within_the_run(old: ModelFile) -> None:
    rows = (
        row(model="old.onnx", sha256=old.sha256, ratio=ratio(1.0, 0.0)),
        row(model="new.onnx", sha256="new", ratio=ratio(0.5)),
    )
    whole = run_parts.run(*rows, id="mmmmmm")
    found = Baseline(of(old), (old,), "").compare(whole)
    assert (found.before, found.after, found.together) == ("bcdfgh", "mmmmmm", True)
    assert found.rows[0].speed is not None
    assert found.rows[0].speed.ratio == pytest.approx(0.5)


def test_what_was_not_is_compared_with_the_kept_figures(old: ModelFile) -> None:
    found = Baseline(of(old), (), "").compare(run_parts.run(row(ms=4.0), id="mmmmmm"))
    assert (found.before, found.after, found.together) == ("bcdfgh", "mmmmmm", False)
    assert found.rows[0].speed is not None
    assert found.rows[0].speed.ratio == pytest.approx(0.5)
