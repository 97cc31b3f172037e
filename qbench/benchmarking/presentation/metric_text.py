"""How figures of accuracy and their differences are written, in a terminal and on a page."""

from qbench.formatting import digits, interval_text, percent, points

_PLAIN = {"cosine", "sqnr_db"}
_TINY = 5e-5


def is_share(metric: str) -> bool:
    """Return whether a metric is a share: written in percent, and its differences in points."""
    return metric not in _PLAIN


def figure_text(metric: str, value: float) -> str:
    """Return a figure: a share in percent, but a cosine and decibels as they are."""
    if is_share(metric):
        return percent(value)
    return f"{value:.4f}" if metric == "cosine" else digits(value)


def change_text(metric: str, value: float, low: float | None, high: float | None) -> str:
    """Return a difference, of shares in points, and its interval where it has one.

    Those of cosines that four decimals would not show have an exponent.
    """
    is_tiny = 0 < max(map(abs, (value, low or 0.0, high or 0.0))) < _TINY
    cosine_form = "+z.0e" if is_tiny else "+z.4f"

    def signed(value: float) -> str:
        if is_share(metric):
            return points(value)
        if metric != "cosine":
            return f"{value:+.1f}"
        return format(value, cosine_form) if value or not is_tiny else "0"

    if low is None or high is None:
        return signed(value)
    return f"{signed(value)} {interval_text(low, high, signed)}"
