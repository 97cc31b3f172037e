"""`qbench calibrate --shard` and `--merge`."""

from pathlib import Path

import pytest

from .conftest import Qbench, files, refused

DATA = ("--data", "imgs", "--recipe", "raw")


def calibrate_in_two(qbench: Qbench) -> list[str]:
    documents = [qbench("calibrate", *DATA, "--shard", f"{i}/2", "--json").json for i in (0, 1)]
    assert [document["images"] for document in documents] == [6, 6]
    assert [document["shard"] for document in documents] == ["0/2", "1/2"]
    return [document["output"] for document in documents]


@pytest.mark.usefixtures("project")
def test_two_shards_make_the_table_of_one_run(qbench: Qbench) -> None:
    assert qbench("calibrate", *DATA, "-o", "whole.json").code == 0
    tables = calibrate_in_two(qbench)
    assert tables == ["calibration/m.0of2.json", "calibration/m.1of2.json"]
    document = qbench("calibrate", "--merge", *tables[::-1], "-o", "all.json", "--json").json
    assert document["images"] == 12
    assert document["shard"] is document["inference_seconds"] is None
    for ending in (".json", ".npz"):
        merged, whole = (Path(name).with_suffix(ending) for name in ("all", "whole"))
        assert merged.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("project")
def test_merging_says_what_it_did_and_keeps_the_table_of_the_model(qbench: Qbench) -> None:
    outcome = qbench("calibrate", "--merge", *calibrate_in_two(qbench))
    assert outcome.out.startswith("12 images of 16 x 16, ")
    assert outcome.out.endswith("wrote calibration/m.json\n")
    assert qbench("quantize", "--target", "cpu", "--effort", "fast").code == 0


@pytest.mark.usefixtures("project")
def test_a_shard_says_so(qbench: Qbench) -> None:
    outcome = qbench("calibrate", *DATA, "--limit", 5, "--shard", "0/4", "-o", "t.json")
    assert outcome.out.startswith("2 images of 16 x 16, shard 0/4, ")


@pytest.mark.usefixtures("project")
def test_one_shard_is_all(qbench: Qbench) -> None:
    document = qbench("calibrate", *DATA, "--shard", "0/1", "--json").json
    assert (document["output"], document["shard"]) == ("calibration/m.json", None)


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        ("--data imgs --shard 4/4", "'4/4' is no shard; for a quarter write 0/4, 1/4, 2/4 or 3", 2),
        ("--data imgs --shard 0/0", "'0/0' is no shard", 2),
        ("--data imgs --shard x", "'x' is no shard", 2),
        ("--data imgs --recipe raw --shard 12/13", "shard 12/13 of 12 samples is empty", 2),
        ("--merge", "0 tables to merge; give the tables of all shards", 2),
        ("--merge calibration/m.json", "1 table to merge; give the tables of all shards", 2),
        ("--merge calibration/m.json m.onnx", "m.json holds all samples, not a shard; use it", 1),
        ("--merge m.onnx m.onnx", "m.onnx is not a calibration table of qbench", 1),
        ("--merge no.json no.json", "no calibration table at no.json", 1),
        ("--merge a.json b.json --data imgs", "--merge reads tables, no images; leave --data", 2),
        ("m.onnx n.onnx --data imgs", "one model at a time, not 2; --data takes one folder", 2),
    ],
)
def test_what_is_refused(
    options: str, message: str, code: int, calibrated: Path, qbench: Qbench
) -> None:
    before = files(calibrated)
    assert message in refused(qbench("calibrate", *options.split()), code)
    assert files(calibrated) == before


@pytest.mark.usefixtures("project")
def test_a_missing_shard_is_named(qbench: Qbench) -> None:
    tables = [
        qbench("calibrate", *DATA, "--shard", f"{i}/3", "--json").json["output"] for i in (0, 2)
    ]
    message = refused(qbench("calibrate", "--merge", *tables))
    assert "shard 1/3 is missing; give all 3 tables" in message


@pytest.mark.usefixtures("project")
def test_a_shard_alone_is_no_table_to_quantize_by(qbench: Qbench) -> None:
    first = calibrate_in_two(qbench)[0]
    message = refused(qbench("quantize", "--target", "cpu", "--table", first))
    assert "the calibration table holds shard 0/2 alone; merge all shards with" in message
    assert "no calibration table in calibration/ was made from m.onnx" in refused(
        qbench("quantize", "--target", "cpu")
    )
