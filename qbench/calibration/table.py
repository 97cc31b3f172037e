"""The calibration table: statistics of a model's tensors over a data set, as two files.

``NAME.json`` says what was calibrated on what and holds the scalars; ``NAME.npz`` beside it holds
the histograms and what is known of channels. Neither holds a date, a duration or a host: the same
model and data give the same bytes.
"""

import logging
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.artifacts import DAMAGED_ARRAYS, SCHEMA_VERSION, json_bytes, sha256_bytes, staged
from qbench.calibration.channels import (
    CHANNEL_ARRAYS,
    ChannelStatistics,
    join_channels,
    split_channels,
)
from qbench.calibration.ranges import Range, clipping_range
from qbench.calibration.shard import Shard
from qbench.calibration.statistics import TensorStatistics
from qbench.data.recipes import Recipe
from qbench.errors import CalibrationError, UsageError

logger = logging.getLogger(__name__)


class DataProvenance(msgspec.Struct, frozen=True):
    """Which data a table was made from.

    Attributes:
        source: The folder or file as given.
        sha256: Fingerprint of names and contents of all files.
        images: Number of samples counted in.
        skipped: Names of samples that could not be read.
    """

    source: str
    sha256: str
    images: int
    skipped: tuple[str, ...] = ()


class TableHeader(msgspec.Struct, frozen=True):
    """What a table was made from.

    A table of one shard names it. The hash in `data` is then that of all samples, the number of
    images and the skipped ones are the shard's own.
    """

    model: str
    model_sha256: str
    data: DataProvenance
    recipe: Recipe | None
    image_size: tuple[int, int] | None
    versions: dict[str, str]
    shard: Shard | None = None
    schema_version: int = SCHEMA_VERSION


class _TensorRecord(msgspec.Struct, frozen=True):
    """One tensor's scalars; the fixed-point sums are decimal strings, as they exceed 64 bits.

    `counted` is the sum of its histogram, `channels` the number of its channels, 0 for none known.
    """

    name: str
    count: int
    min: float
    max: float
    mean: float
    second_moment: float
    exponent: int
    sum_fixed: str
    squares_fixed: str
    counted: int
    channels: int


class _TableFile(msgspec.Struct, frozen=True):
    header: TableHeader
    tensors: list[_TensorRecord]


@dataclass(frozen=True)
class CalibrationTable:
    """Statistics by tensor name of the prepared graph, and what they were made from.

    Attributes:
        header: Model, data, recipe and versions.
        statistics: By tensor name, in graph order.
        inference_seconds: Time that the pass spent in the runtime, summed over workers; it is not
            stored, and None in a table that was read.
        path: The file that holds it, or None.
    """

    header: TableHeader
    statistics: dict[str, TensorStatistics]
    inference_seconds: float | None = None
    path: Path | None = field(default=None, compare=False)

    def __contains__(self, tensor: str) -> bool:
        return tensor in self.statistics

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of images; of arrays, where the model leaves them open. Else None."""
        return self.header.image_size

    @property
    def source(self) -> Path:
        """Where the samples are: as they were named, from here or from above the table's folder.

        The latter is where `calibrate` ran that wrote a table into its usual place, `calibration/`.
        """
        named = Path(self.header.data.source)
        if named.exists() or self.path is None:
            return named
        there = self.path.resolve().parent.parent / named
        return there if there.exists() else named

    @property
    def sha256(self) -> str:
        """Identity of the table: the hash of its JSON and arrays."""
        arrays = (array.tobytes() for array in self._arrays().values())
        return sha256_bytes(b"".join([self._json(), *arrays]))

    def statistics_of(self, tensor: str) -> TensorStatistics:
        """Return what was seen of `tensor`.

        Raises:
            CalibrationError: The table knows no such tensor.
        """
        if tensor not in self.statistics:
            raise CalibrationError(
                f"the calibration table of {self.header.model} lacks tensor {tensor!r}; "
                "calibrate again"
            )
        return self.statistics[tensor]

    def range_of(self, tensor: str, method: str, *, symmetric: bool) -> Range:
        """Return the clipping range of `tensor`; see `ranges.clipping_range`.

        Raises:
            CalibrationError: The table knows no such tensor.
        """
        return clipping_range(self.statistics_of(tensor), method, symmetric=symmetric)

    def check_model(self, sha256: str, name: str) -> None:
        """Make sure that the table belongs to a model and holds all samples.

        Raises:
            CalibrationError: It was made from another model, or holds one shard alone.
        """
        if self.header.shard is not None:
            raise CalibrationError(
                f"the calibration table holds shard {self.header.shard} alone; "
                "merge all shards with `qbench calibrate --merge` first"
            )
        if self.header.model_sha256 != sha256:
            raise CalibrationError(
                f"the calibration table was made from another model ({self.header.model}, sha256 "
                f"{self.header.model_sha256[:12]}) than {name} (sha256 {sha256[:12]}); "
                f"run `qbench calibrate {name} --data ...`"
            )

    def save(self, path: Path | str) -> None:
        """Write `path` (JSON) and the histograms beside it (.npz), atomically.

        Raises:
            StorageError: The disk is full, or the folder cannot be written.
        """
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self._arrays())
        with staged(Path(path)) as target:
            target.with_suffix(".npz").write_bytes(buffer.getvalue())
            target.write_bytes(self._json() + b"\n")

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return all histograms, and what is known of channels, one tensor after the other."""
        counts = np.stack([s.counts for s in self.statistics.values()])
        channels = [s.channels for s in self.statistics.values() if s.channels is not None]
        return {"counts": counts, **join_channels(channels)}

    def _json(self) -> bytes:
        records = [_record(name, s) for name, s in self.statistics.items()]
        return json_bytes(_TableFile(self.header, records))


def load_table(path: Path | str) -> CalibrationTable:
    """Read a table.

    Raises:
        CalibrationError: A file is missing, damaged, or no calibration table.
    """
    path = Path(path)
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_TableFile)
        version = document.header.schema_version
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema_version {version}, this qbench reads {SCHEMA_VERSION}")
        # From memory, since np.load leaves a damaged file open.
        with np.load(BytesIO(path.with_suffix(".npz").read_bytes())) as file:
            counts, joined = file["counts"], {name: file[name] for name in CHANNEL_ARRAYS}
        channels = split_channels(joined, [record.channels for record in document.tensors])
        rows = zip(document.tensors, counts, channels, strict=True)
        statistics = {record.name: _statistics(record, row, own) for record, row, own in rows}
    except FileNotFoundError as error:
        lacks = f"{path} lacks its histograms {error.filename}; copy them too or calibrate again"
        is_table = error.filename == str(path)
        raise CalibrationError(
            f"no calibration table at {path}; calibrate first" if is_table else lacks
        ) from None
    except (msgspec.MsgspecError, *DAMAGED_ARRAYS) as error:
        raise CalibrationError(
            f"{path} is not a calibration table of qbench ({error}); calibrate again"
        ) from error
    return CalibrationTable(document.header, statistics, path=path)


def find_table(folder: Path, model_sha256: str) -> Path | None:
    """Return the table of all samples in `folder` that was made from the model, or None.

    Of several the first by name, of those that this version reads and that have their histograms
    where there are such.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            header = msgspec.json.decode(path.read_bytes(), type=_HeaderOnly).header
        except (msgspec.MsgspecError, OSError):
            continue  # some other JSON lives in this folder
        if header.model_sha256 == model_sha256 and header.shard is None:
            has_all = path.with_suffix(".npz").exists()
            found.append((not has_all or header.schema_version != SCHEMA_VERSION, path))
    return min(found)[1] if found else None


def check_place(path: Path) -> None:
    """Make sure that the histograms of a table at `path` replace none but those of a table.

    Raises:
        UsageError: Beside it lies an archive of other arrays, such as samples.
    """
    beside = path.with_suffix(".npz")
    if not beside.exists():
        return
    try:
        with np.load(beside) as file:
            is_of_table = "counts" in file.files
    except DAMAGED_ARRAYS:
        is_of_table = path.exists()
    if not is_of_table:
        raise UsageError(
            f"{beside} is not of a calibration table, whose histograms would replace it; "
            "choose another name with -o"
        )


def tell_replaced(path: Path, model_sha256: str) -> None:
    """Warn where the table at `path` will be replaced by that of another model."""
    try:
        header = msgspec.json.decode(path.read_bytes(), type=_HeaderOnly).header
    except (msgspec.MsgspecError, OSError):
        return
    if header.model_sha256 != model_sha256:
        logger.warning(
            "%s was made from another model, or another export of it, and will be replaced; "
            "`qbench calibrate -o` keeps both",
            path,
        )


class _HeaderOnly(msgspec.Struct, frozen=True):
    header: TableHeader


def _record(name: str, statistics: TensorStatistics) -> _TensorRecord:
    return _TensorRecord(
        name=name,
        count=statistics.count,
        min=statistics.low,
        max=statistics.high,
        mean=statistics.mean,
        second_moment=statistics.second_moment,
        exponent=statistics.exponent,
        sum_fixed=str(statistics.total),
        squares_fixed=str(statistics.squares),
        counted=int(statistics.counts.sum()),
        channels=0 if statistics.channels is None else statistics.channels.lows.size,
    )


def _statistics(
    record: _TensorRecord, counts: NDArray[Any], channels: ChannelStatistics
) -> TensorStatistics:
    found = int(counts.sum())
    if found != record.counted:
        raise ValueError(
            f"the histogram of {record.name!r} holds {found} values, not {record.counted}"
        )
    return TensorStatistics(
        count=record.count,
        low=record.min,
        high=record.max,
        total=int(record.sum_fixed),
        squares=int(record.squares_fixed),
        exponent=record.exponent,
        counts=counts.astype(np.int64),
        channels=channels if record.channels else None,
    )
