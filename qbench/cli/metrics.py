"""How figures of accuracy, and their differences, look in a terminal."""

from qbench.cli.render import percent


def figure_text(metric: str, value: float) -> str:
    """Return a figure: a share in percent, but a cosine and decibels as they are."""
    if metric == "sqnr_db":
        return f"{value:.1f}"
    return f"{value:.4f}" if metric == "cosine" else percent(value)


def change_text(metric: str, value: float, low: float | None, high: float | None) -> str:
    """Return a difference, of shares in points, and its interval where it has one."""
    text = _signed(metric, value)
    if low is None or high is None:
        return text
    return f"{text} [{_signed(metric, low)}, {_signed(metric, high)}]"


def has_points(metric: str) -> bool:
    """Tell whether differences of a metric are in points."""
    return metric not in {"cosine", "sqnr_db"}


def _signed(metric: str, value: float) -> str:
    if has_points(metric):
        return f"{100 * value:+.1f}"
    return f"{value:+.4f}" if metric == "cosine" else f"{value:+.1f}"
