"""The layers of a comparison, for a terminal of 80 columns."""

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil

from rich.table import Table

from qbench.cli.output.render import counted, percent
from qbench.evaluation.compare_layers import LayerComparison
from qbench.evaluation.layerwise import LIMIT_DB, LayerScore

_WIDTH = 64
_ROWS = 6
_ROW_DB = 10
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN_BLOCKS = "    #####"


def verdicts(found: LayerComparison) -> Iterator[tuple[str, str]]:
    """Yield labels and texts: what was compared, and the layers to look at."""
    count = counted(found.samples, "sample")
    yield "compared", f"{found.reference} with {found.test}, {found.arithmetic} arithmetic, {count}"
    yield "data", found.data + (f", {len(found.skipped)} skipped" if found.skipped else "")
    yield "layers", f"{len(found.layers)} of {found.total} float tensors of {found.reference}"
    if found.first_bad is None:
        yield "first bad", f"none; no layer is below {found.threshold_db:g} dB"
    else:
        yield "first bad", _described(found.layer(found.first_bad))
    if found.steepest is not None:
        yield "steepest", _described(found.layer(found.steepest))


def chart(layers: Sequence[LayerScore]) -> list[str]:
    """Return the lines of a bar chart of SQNR along depth, from 0 to at most 60 dB.

    Each column stands for as many layers as it takes to fill the width, and shows the worst.
    """
    count = min(len(layers), _WIDTH)
    bounds = [len(layers) * column // count for column in range(count + 1)]
    worst = [min(layer.sqnr_db for layer in layers[low:high]) for low, high in pairwise(bounds)]
    blocks = _blocks()
    rows = max(1, min(_ROWS, ceil(max(worst) / _ROW_DB)))
    lines = []
    for row in reversed(range(rows)):
        filled = (max(0.0, min(1.0, sqnr / _ROW_DB - row)) for sqnr in worst)
        bars = "".join(blocks[int(share * (len(blocks) - 1))] for share in filled)
        lines.append(f"{row * _ROW_DB:3} |{bars}".rstrip())
    lines.append(f" dB +{'-' * count}> depth {layers[-1].depth}")
    return lines


def layer_table(layers: Sequence[LayerScore], top: int) -> Table:
    """Return a line for each of the `top` layers that add most noise, the worst first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("depth", justify="right")
    table.add_column("layer", overflow="fold")
    table.add_column("operator")
    for name in ("SQNR dB", "inputs", "cosine", "adds"):
        table.add_column(name, justify="right")
    for layer in sorted(layers, key=lambda layer: -layer.added_noise)[:top]:
        table.add_row(
            str(layer.depth),
            layer.name,
            layer.op_type,
            _decibels(layer.sqnr_db),
            _decibels(layer.input_sqnr_db),
            f"{layer.cosine:.4f}",
            _share(layer.added_noise),
        )
    return table


def _described(layer: LayerScore) -> str:
    before = _decibels(layer.input_sqnr_db)
    inputs = "equal" if before == _decibels(LIMIT_DB) else f"at {before} dB"
    return (
        f"{layer.name} ({layer.op_type}, depth {layer.depth}) at {_decibels(layer.sqnr_db)} dB, "
        f"its inputs {inputs}"
    )


def _decibels(sqnr_db: float) -> str:
    """Return an SQNR; `equal` and `lost` at the ends of its range."""
    if abs(sqnr_db) >= LIMIT_DB:
        return "equal" if sqnr_db > 0 else "lost"
    return f"{sqnr_db:.1f}"


def _share(share: float) -> str:
    """Return a share in percent, however small."""
    return f"{100 * share:.1g} %" if 0 < share < 1e-3 else percent(share)


def _blocks() -> str:
    """Return characters of rising height; plain ones where stdout cannot show blocks."""
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_BLOCKS
    return _BLOCKS
