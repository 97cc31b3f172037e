import pytest
from msgspec.structs import replace
from runs_to_show import rows

from qbench.benchmarking.presentation.columns import accuracy_text, columns_for, difference_text
from qbench.benchmarking.result import Accuracy, Figure, Row
from qbench.benchmarking.stats import Interval

ROW = Row(model="a.onnx", precision="int8", provider="cpu", batch=1)
MINUS = "\N{MINUS SIGN}"


def cells(row: Row, *others: Row) -> dict[str, str]:
    return {column.title: column.cell(row)[1] for column in columns_for([row, *others])}


def test_a_column_that_says_nothing_is_left_out() -> None:
    assert list(cells(ROW)) == ["precision", "provider"]
    assert list(cells(ROW, replace(ROW, batch=4))) == ["precision", "provider", "batch"]
    assert next(iter(cells(ROW, replace(ROW, model="b.onnx")))) == "model"


def test_a_row_in_words() -> None:
    fp32, _, int8, *_ = rows()
    shown = cells(int8, fp32)
    assert shown["accuracy"] == "90.4 % [87.9, 92.6]"
    assert shown["change"] == f"{MINUS}0.8 [{MINUS}2.0, +0.1]"
    assert shown["speed-up"] == "2.13 [2.10, 2.16]"
    assert (shown["median ms"], shown["p90 ms"], shown["verdict"]) == ("1.88", "2.07", "faster")
    assert (shown["size MiB"], shown["host MiB"], shown["load s"]) == ("3.34", "250.0", "0.12")
    assert (shown["images/s"], shown["first ms"]) == ("532.5", "9.00")


def test_the_baseline_and_a_failure_are_called_so() -> None:
    fp32, *_, failed, simulated = rows()
    assert (cells(fp32)["speed-up"], cells(fp32)["verdict"]) == ("1", "baseline")
    assert cells(failed, fp32)["verdict"] == "failed"
    assert cells(failed, fp32)["median ms"] == "\N{EN DASH}"
    assert cells(simulated, fp32)["verdict"] == "\N{EN DASH}"


def test_missing_values_do_not_sort_as_zero() -> None:
    fp32, *_, failed, _ = rows()
    medians = [column for column in columns_for([fp32, failed]) if column.title == "median ms"]
    assert [medians[0].cell(row)[0] for row in (fp32, failed)] == [4.0, None]


def test_a_cosine_has_four_decimals_and_no_percent() -> None:
    cosine = Accuracy("cosine", 0.99871, 64, 0.9981, 0.9991, Interval(-0.0013, -0.002, -0.001))
    assert accuracy_text(cosine) == "0.9987 [0.9981, 0.9991]"
    assert difference_text(cosine) == "-0.0013 [-0.0020, -0.0010]"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Interval(-2e-6, -3e-6, -1e-6), "-2e-06 [-3e-06, -1e-06]"),
        (Interval(-2e-6, -3e-6, 0.0), "-2e-06 [-3e-06, 0]"),
        (Interval(-1e-5, -2e-4, 0.0), "+0.0000 [-0.0002, +0.0000]"),
        (Interval(0.0, 0.0, 0.0), "+0.0000 [+0.0000, +0.0000]"),
    ],
)
def test_a_small_change_of_a_cosine_is_no_minus_zero(change: Interval, text: str) -> None:
    assert difference_text(Accuracy("cosine", 0.99, 64, 0.98, 0.99, change)) == text


def test_further_figures_follow() -> None:
    accuracy = Accuracy("top1", 0.9, 10, 0.8, 0.95, others=(Figure("top5", 0.99, 0.95, 1.0),))
    agreement = replace(accuracy, others=(Figure("sqnr_db", 31.234, 30.0, 32.0),))
    fp32, int8 = replace(ROW, accuracy=accuracy), replace(ROW, accuracy=agreement, batch=2)
    shown = cells(fp32, int8)
    assert list(shown)[-3:] == ["accuracy", "top5", "sqnr db"]
    assert (shown["top5"], shown["sqnr db"]) == ("99.0 %", "\N{EN DASH}")
    assert cells(int8, fp32)["sqnr db"] == "31.2"


def test_a_paced_row_tells_its_rate_and_what_was_late() -> None:
    paced = replace(ROW, mode="paced", rate=30.0, missed_share=0.012)
    assert (cells(paced)["calls/s"], cells(paced)["late"]) == ("30.0", "1.2 %")


def test_the_first_row_has_no_change() -> None:
    assert difference_text(Accuracy("top1", 0.9, 10, 0.8, 0.95)) == ""
