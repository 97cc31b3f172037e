"""What a search chose for one model and target, and the file that keeps it beside the table.

A search takes many runs of the model, and `quantize`, `build-trt` and `bench` want the same one.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.artifacts import DAMAGED_ARRAYS, SCHEMA_VERSION, staged, write_json
from qbench.calibration.ranges import Range
from qbench.errors import StorageError

logger = logging.getLogger(__name__)


class Step(NamedTuple):
    """What one step of a search gained.

    Attributes:
        name: What was done.
        changed: Number of tensors or nodes that it changed.
        output_sqnr_db: Signal-to-noise ratio of the outputs afterwards, in dB.
    """

    name: str
    changed: int
    output_sqnr_db: float


@dataclass(frozen=True)
class Choice:
    """What differs from quantizing the whole plan by the range method alone.

    Attributes:
        ranges: Clipping ranges by tensor; that of an equalized tensor, once it is divided, stands
            under `equalization.equalized_name`.
        factors: What equalized tensors are divided by, float32 [channels], by tensor.
        float_nodes: Nodes that stay float, with the reason.
        codes: Codes of weights that are not rounded to the nearest, by the node that reads them.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    factors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    float_nodes: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)


class _ChoiceFile(msgspec.Struct, frozen=True, kw_only=True):
    """`key` says what the choice was made for; see `search.key_of`.

    The arrays beside it are the key again, then the codes of each node in `coded`. They have no
    names, since a node's may be one of `numpy.savez`'s own parameters, such as `file`.
    """

    key: str
    steps: tuple[Step, ...]
    ranges: dict[str, tuple[float, float]]
    factors: dict[str, list[float]]
    float_nodes: dict[str, str]
    coded: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION


def choice_path(table: Path, target: str) -> Path:
    """Return the file that keeps the choice for a target: <table>.<target>.choice.json.

    The codes of weights lie beside it, in a .npz of that name.
    """
    return table.with_suffix(f".{target}.choice.json")


def save_choice(path: Path, key: str, choice: Choice, steps: tuple[Step, ...]) -> None:
    """Write a choice; where that fails, the log says so, since nothing depends on it."""
    factors = {tensor: by.tolist() for tensor, by in choice.factors.items()}
    document = _ChoiceFile(
        key=key,
        steps=steps,
        ranges=dict(choice.ranges),
        factors=factors,
        float_nodes=dict(choice.float_nodes),
        coded=tuple(choice.codes),
    )
    try:
        with staged(path.with_suffix(".npz")) as file:
            np.savez(file, np.array(key), *choice.codes.values(), allow_pickle=False)
        write_json(path, document)
    except StorageError as error:
        logger.warning("what the search found is not kept: %s", error)


def load_choice(path: Path, key: str) -> tuple[Choice, tuple[Step, ...]] | None:
    """Return the choice that was made for `key` and what its steps gained, or None."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_ChoiceFile)
        with np.load(path.with_suffix(".npz")) as arrays:
            key_of_codes, *codes = arrays.values()
        coded = dict(zip(kept.coded, codes, strict=True))
    except (msgspec.MsgspecError, *DAMAGED_ARRAYS):
        return None  # none was made yet, or by another version, or it is damaged
    if kept.key != key or key_of_codes != key:
        return None
    logger.info("ranges and float nodes: %s", path)
    factors = {tensor: np.array(by, np.float32) for tensor, by in kept.factors.items()}
    return Choice(kept.ranges, factors, kept.float_nodes, coded), kept.steps
