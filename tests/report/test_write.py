import builtins
from dataclasses import replace as replace_run
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from runs_to_show import contents_to_show, hostile_contents, layers_to_show, result_to_show, rows

import qbench
from qbench.artifacts import write_json
from qbench.errors import DataError, StorageError, UnfitError, UsageError
from qbench.report.contents import Contents
from qbench.report.page import page_html
from qbench.report.sources import read_contents
from qbench.report.write import write_charts, write_page
from qbench.runs.run import Run


def test_the_page_is_small_and_names_nothing_outside(report: Path) -> None:
    text = report.read_text("utf-8")
    assert len(text) < 2_000_000
    addresses = text.replace("http://www.w3.org/2000/svg", "").replace(
        "http://www.w3.org/1999/xlink", ""
    )
    assert "http" not in addresses.replace("http-equiv", "")
    assert "src=" not in addresses.replace("default-src", "").replace("script-src", "")


def test_a_page_of_a_hundred_rows_is_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    many = tuple(row for i in range(12) for row in rows(f"model{i}.onnx"))
    samples = {
        i: np.exp(random.normal(-6, 1, 3000)) for i, row in enumerate(many) if row.latency_ms
    }
    result = replace(result_to_show(), rows=many)
    write_page(Contents(Run("r", result, samples), layers_to_show(300)), tmp_path / "r.html")
    assert len(many) > 100
    assert (tmp_path / "r.html").stat().st_size < 2_000_000


def test_the_same_run_gives_the_same_page(report: Path) -> None:
    assert page_html(contents_to_show()) == report.read_text("utf-8")


def test_layers_that_are_equal_are_none_of_the_worst() -> None:
    equal = (replace_run(layer, sqnr_db=200.0) for layer in layers_to_show(6, "/equal"))
    shown = replace_run(contents_to_show(), layers=(*layers_to_show(2), *equal))
    assert "/stage1/Conv_output_0" in page_html(shown)
    assert "/equal" not in page_html(shown)


def test_what_is_not_known_is_a_sentence() -> None:
    page = page_html(Contents(Run("r", replace(result_to_show(), rows=rows()[7:8], control=None))))
    for sentence in (
        "No row has both an accuracy and a latency.",
        "The single timings are not in this file",
        "No operators were profiled",
        "No row records nodes that quantization left float.",
    ):
        assert sentence in page
    assert "<svg" not in page
    assert "Where accuracy is lost" not in page


def test_an_untrusted_run_is_marked() -> None:
    untrusted = replace(result_to_show(), trusted=False)
    assert 'class="bearing untrusted"' in page_html(Contents(Run("r", untrusted)))


def test_markup_in_names_is_escaped() -> None:
    page = page_html(hostile_contents())
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img" not in page


def test_a_result_a_run_and_a_file_give_the_same_rows(tmp_path: Path) -> None:
    result = result_to_show()
    write_json(tmp_path / "run.json", result)
    from_file = read_contents(tmp_path / "run.json")
    assert from_file.result == read_contents(result).result == result
    assert from_file.run.id == "run.json"
    run = contents_to_show().run
    assert read_contents(run).run is run


def test_the_public_call_writes_the_page(tmp_path: Path) -> None:
    write_json(tmp_path / "debug.json", {"layers": layers_to_show(5), "more": 1})
    path = qbench.write_report(
        result_to_show(), tmp_path / "r.html", debug=str(tmp_path / "debug.json")
    )
    assert path == tmp_path / "r.html"
    assert "Where accuracy is lost" in path.read_text("utf-8")


def test_what_is_no_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no document at none\.json"):
        read_contents("none.json")
    with pytest.raises(UsageError, match="no run 'abc'"):
        read_contents("abc")


def test_a_run_that_was_stopped_says_so() -> None:
    run = replace_run(contents_to_show().run, finished=False)
    assert "This run was stopped half-way" in page_html(Contents(run))


def test_layers_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*x.json \(No such file or directory\)"):
        read_contents(result_to_show(), tmp_path / "x.json")


def test_what_is_no_comparison_of_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(msgspec.json.encode(result_to_show()))
    with pytest.raises(DataError, match="is no document of `qbench debug --json`"):
        read_contents(result_to_show(), path)


def test_charts_as_images(tmp_path: Path) -> None:
    contents = Contents(contents_to_show().run)
    written = write_charts(contents, svg=tmp_path / "svg", png=tmp_path / "png")
    names = ["accuracy-latency", "speed-up", "accuracy-change", "latencies", "operators"]
    assert [path.name for path in written] == [
        *(f"{name}.svg" for name in names),
        *(f"{name}.png" for name in names),
    ]
    svg = written[0].read_text("utf-8")
    assert "var(--" not in svg
    assert "Accuracy against latency" in svg
    assert written[-1].read_bytes().startswith(b"\x89PNG")


def test_no_charts_where_no_folder_is_named() -> None:
    assert write_charts(contents_to_show()) == []


def test_without_the_extra_the_fix_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fail(name: str, *rest: Any) -> Any:
        if name == "vl_convert":
            raise ImportError("no vl_convert", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UnfitError, match=r"need vl_convert, .*; install qbench-onnx\[report\]"):
        write_page(contents_to_show(), tmp_path / "report.html")


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="it is a folder"):
        write_page(contents_to_show(), tmp_path)
