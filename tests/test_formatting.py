import pytest

from qbench.formatting import (
    count_text,
    counted,
    digits,
    first_names,
    interval_text,
    percent,
    points,
    share_from_text,
    size_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0312, "0.03"), (1.5, "1.50"), (-9.5, "-9.50"), (12.34, "12.3"), (4321.6, "4322")],
)
def test_digits(value: float, text: str) -> None:
    assert digits(value) == text


def test_one_thing_is_singular() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_of_many_names_the_first_are_shown() -> None:
    assert first_names(["a"]) == "a"
    assert first_names(iter("abcde")) == "a, b, c and 2 more"


def test_shares_are_in_percent_and_their_differences_in_signed_points() -> None:
    assert percent(0.9504) == "95.0 %"
    assert points(0.0042) == "+0.4"
    assert points(-0.0152) == "\N{MINUS SIGN}1.5"


@pytest.mark.parametrize(
    ("text", "share"),
    [("95%", 0.95), ("0.5 %", 0.005), (".5%", 0.005), ("100%", 1), ("250%", 2.5)],
)
def test_shares_are_read_from_percent(text: str, share: float) -> None:
    assert share_from_text(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["95", "1_0%", "-1%", "nan%", "inf%", "%", ".%", "", "²%"])
def test_what_is_no_share(text: str) -> None:
    assert share_from_text(text) is None


def test_an_interval_takes_the_form_of_its_figure() -> None:
    assert interval_text(0.5, 12.0) == "[0.50, 12.0]"
    assert interval_text(0.5, 0.6, percent) == "[50.0 %, 60.0 %]"


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 B"), (2048, "2.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12"), (1200, "1.20 k"), (4.7e6, "4.70 M"), (3.2e9, "3.20 G")]
)
def test_counts(count: float, text: str) -> None:
    assert count_text(count) == text
