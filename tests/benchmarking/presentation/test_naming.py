from pathlib import Path

import pytest
from msgspec.structs import replace
from runs_to_show import result_to_show, rows

from qbench.benchmarking.presentation.naming import (
    is_baseline,
    metric_name,
    row_names,
    told_apart,
)
from qbench.benchmarking.result import Ratio, Row

ROW = Row(model="a.onnx", precision="int8", provider="cpu")


def names(*given: Row) -> list[str]:
    return row_names(replace(result_to_show(), rows=given))


def test_a_name_says_what_differs_from_the_usual() -> None:
    other = replace(ROW, batch=8, threads=2, streams=3)
    assert names(ROW, other) == ["int8 cpu", "int8 cpu batch 8 2 threads 3 streams"]


def test_what_all_rows_share_says_nothing_of_any() -> None:
    paced = [replace(row, mode="paced", rate=30.0) for row in rows()[:2]]
    assert names(*paced) == ["fp32 cpu", "fp16 cpu"]
    assert names(paced[0], replace(paced[0], rate=60.0)) == [
        "fp32 cpu paced 30/s",
        "fp32 cpu paced 60/s",
    ]


def test_a_model_is_named_where_there_are_several() -> None:
    assert names(ROW, replace(ROW, model="b.onnx")) == ["a.onnx int8 cpu", "b.onnx int8 cpu"]


def test_no_two_rows_have_one_name() -> None:
    assert names(ROW, ROW, ROW) == ["int8 cpu", "int8 cpu (2)", "int8 cpu (3)"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/w/a/m.onnx"], ["m.onnx"]),
        (["/w/a/m.onnx", "/w/b/m.onnx", "/w/b/n.onnx"], ["a/m.onnx", "b/m.onnx", "n.onnx"]),
        (["/a/x/m.onnx", "/b/x/m.onnx", "/c/m.onnx"], ["a/x/m.onnx", "b/x/m.onnx", "/c/m.onnx"]),
        (["/m.onnx", "/w/m.onnx"], ["/m.onnx", "w/m.onnx"]),
        (["m.onnx", "m.onnx"], ["m.onnx", "m.onnx"]),
    ],
)
def test_files_of_one_name_are_told_apart_by_folders(paths: list[str], expected: list[str]) -> None:
    found = told_apart(map(Path, paths))
    assert [found[Path(path)] for path in paths] == expected


def test_the_baseline_is_the_row_that_equals_itself_exactly() -> None:
    assert [is_baseline(row.ratio) for row in rows()] == [True, *[False] * 8]
    assert not is_baseline(Ratio(1.0, 0.99, 1.01, "same"))


def test_an_unknown_metric_keeps_its_name() -> None:
    assert metric_name("map") == "COCO mAP"
    assert metric_name("psnr") == "psnr"
