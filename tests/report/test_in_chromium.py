"""The page as a reader has it: opened from a file, in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page
from runs_to_show import hostile_contents

from qbench.report.theme import DARK, LIGHT
from qbench.report.write import write_page

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a page; in the end, nothing but the file was asked for and nothing went wrong."""
    asked: list[str] = []
    wrong: list[str] = []
    opened: list[Page] = []

    def call(path: Path, **options: object) -> Page:
        page = browser.new_page(**options)  # type: ignore[arg-type]
        opened.append(page)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(path.as_uri())
        return page

    yield call
    addresses = [page.url for page in opened]
    for page in opened:
        page.close()
    assert (asked, wrong) == (addresses, [])


def column(page: Page, place: int) -> list[str]:
    """Return the texts of a column of the table, without the lines of notes."""
    cells = page.locator(f".qbench tbody tr:first-child td:nth-child({place})")
    return cells.all_inner_texts()


def heading(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def test_the_page_opens_offline_with_its_table_and_charts(report: Path, open_page: Open) -> None:
    page = open_page(report, offline=True)
    assert page.title() == "net.onnx: qbench report"
    assert len(column(page, 1)) == 9
    assert page.locator(".wide svg").count() == 6
    assert page.get_by_text("FP8 needs a GPU of compute capability 8.9").is_visible()
    assert page.get_by_text("Timings passed their control").is_visible()


def test_a_click_sorts_up_then_down_then_as_it_was(report: Path, open_page: Open) -> None:
    page = open_page(report)
    button, before = heading(page, "median ms"), column(page, 5)
    head = page.locator("th", has=button)
    button.click()
    up = column(page, 5)
    assert up == ["0.41", "0.42", "0.77", "1.88", "3.99", "4.00", "4.76", NONE, NONE]
    assert head.get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(page, 5) == [*up[6::-1], NONE, NONE]
    assert head.get_attribute("aria-sort") == "descending"
    button.click()
    assert column(page, 5) == before
    assert head.get_attribute("aria-sort") is None


def test_the_keyboard_sorts_words_and_the_reason_stays_with_its_row(
    report: Path, open_page: Open
) -> None:
    page = open_page(report)
    heading(page, "verdict").focus()
    page.keyboard.press("Enter")
    verdicts = column(page, 7)
    assert verdicts[:3] == ["baseline", "failed", "faster"]
    failed = page.locator(".qbench tbody").nth(1)
    assert "this one has 8.6" in failed.inner_text()
    assert page.locator("th[aria-sort]").count() == 1


def test_a_pointer_shows_the_exact_figures_of_a_mark(report: Path, open_page: Open) -> None:
    page = open_page(report)
    tip = page.get_by_role("tooltip")
    assert tip.is_hidden()
    page.locator("#accuracy-latency .wide [aria-label*='row: int8 tensorrt']").hover()
    assert tip.inner_text().splitlines() == [
        "row: int8 tensorrt",
        "accuracy: 90.0 % [87.5, 92.2], 500 images",
        "median: 0.41 ms",
        "speed-up: 9.80 [9.65, 9.95] faster",
    ]
    page.locator("h1").hover()
    assert tip.is_hidden()


@pytest.mark.parametrize(
    ("chart", "text"),
    [
        ("speed-up", "same candidate twice"),
        ("accuracy-change", "change: -4.1 [-5.3, -3.2]".replace("-", MINUS)),
        ("latencies", "of 2000 ("),
        ("operators", "operator: QLinearConv"),
        ("layers", "SQNR: 6.50 dB"),
    ],
)
def test_every_chart_has_tooltips(chart: str, text: str, report: Path, open_page: Open) -> None:
    page = open_page(report)
    page.locator(f"#{chart} .wide .role-mark [aria-label*='{text}']").first.hover()
    assert text in page.get_by_role("tooltip").inner_text()


def test_the_keyboard_reaches_points_and_escape_hides_the_tooltip(
    report: Path, open_page: Open
) -> None:
    page = open_page(report)
    page.locator("#speed-up .wide [aria-label*='row: fp16 cuda']").focus()
    tip = page.get_by_role("tooltip")
    assert "5.20 [5.12, 5.28]" in tip.inner_text()
    page.keyboard.press("Escape")
    assert tip.is_hidden()


@pytest.mark.parametrize(("scheme", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_page_and_charts_follow_the_readers_scheme(
    scheme: str, colours: dict[str, str], report: Path, open_page: Open
) -> None:
    page = open_page(report, color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    point = page.locator("#speed-up .wide .mark-symbol [aria-label*='row: int8 cpu']")
    assert paper == css_colour(colours["paper"])
    assert point.evaluate("mark => getComputedStyle(mark).fill") == css_colour(colours["int8"])


def test_on_paper_the_page_is_light(report: Path, open_page: Open) -> None:
    page = open_page(report, color_scheme="dark")
    page.emulate_media(media="print")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == css_colour(LIGHT["paper"])


def test_a_telephone_gets_narrow_charts_and_scrolls_nothing_but_the_table(
    report: Path, open_page: Open
) -> None:
    page = open_page(report, viewport={"width": 360, "height": 740})
    assert page.locator("#accuracy-latency .narrow svg").is_visible()
    assert page.locator("#accuracy-latency .wide svg").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_names_from_files_run_no_script(tmp_path: Path, open_page: Open) -> None:
    path = tmp_path / "report.html"
    write_page(hostile_contents(), path)
    page = open_page(path)
    assert page.locator("script").count() == 1
    assert page.locator("img, iframe, object, a").count() == 0
    assert page.evaluate("window.hit") is None
    assert "<script>window.hit" in page.locator("h1").inner_text()
    page.locator("#speed-up .wide .mark-symbol [aria-label]").first.hover()
    assert "<script>window.hit" in page.get_by_role("tooltip").inner_text()


def test_even_a_script_that_got_in_would_not_run(
    tmp_path: Path, report: Path, browser: Browser
) -> None:
    path = tmp_path / "tampered.html"
    text = report.read_text("utf-8")
    injected = "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'>"
    path.write_text(text.replace("</main>", f"{injected}</main>"), "utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator("script").count() == 2
    assert page.evaluate("window.hit") is None
    page.close()


def css_colour(text: str) -> str:
    red, green, blue = (int(text[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgb({red}, {green}, {blue})"
