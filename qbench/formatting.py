"""How figures and names look, whether a terminal or a page shows them."""

import re
from collections.abc import Callable, Iterable

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
MINUS = "\N{MINUS SIGN}"


def size_text(size: float) -> str:
    """Return a size in bytes as in `4.7 MiB`."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} B"


def count_text(count: float) -> str:
    """Return a large count as in `4.7 M`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count:.0f}"


def counted(count: int, noun: str) -> str:
    """Return a number of things, as in `1 image` or `200 images`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def first_names(names: Iterable[str], most: int = 3) -> str:
    """Return the first few of `names` for a message, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def digits(value: float) -> str:
    """Return a figure with two decimals below 10, one below 1000, and none above."""
    for limit, decimals in ((10, 2), (1000, 1)):
        if abs(value) < limit:
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"


def percent(share: float) -> str:
    """Return a share as in `95.0 %`."""
    return f"{100 * share:.1f} %"


def share_from_text(text: str) -> float | None:
    """Return the share of 1 that a text such as `95%` tells; None where it tells none."""
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+) *%", text)
    return float(found[1]) / 100 if found else None


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, signed, with a real minus."""
    return f"{100 * difference:+.1f}".replace("-", MINUS)


def interval_text(low: float, high: float, form: Callable[[float], str] = digits) -> str:
    """Return the ends of an interval as in `[1.41, 1.46]`."""
    return f"[{form(low)}, {form(high)}]"
