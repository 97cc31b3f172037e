"""How figures of accuracy and their differences are written, in a terminal and on a page."""

from qbench.formatting import digits, interval_text, percent, points

_PLAIN = {"cosine", "sqnr_db"}


def is_share(metric: str) -> bool:
    """Return whether a metric is a share: written in percent, and its differences in points."""
    return metric not in _PLAIN


def figure_text(metric: str, value: float) -> str:
    """Return a figure: a share in percent, but a cosine and decibels as they are."""
    if is_share(metric):
        return percent(value)
    return f"{value:.4f}" if metric == "cosine" else digits(value)


def change_text(metric: str, value: float, low: float | None, high: float | None) -> str:
    """Return a difference, of shares in points, and its interval where it has one."""

    def signed(value: float) -> str:
        if is_share(metric):
            return points(value)
        return f"{value:+.4f}" if metric == "cosine" else f"{value:+.1f}"

    if low is None or high is None:
        return signed(value)
    return f"{signed(value)} {interval_text(low, high, signed)}"
