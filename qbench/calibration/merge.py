"""Put the tables of all shards together: to the byte the table of one run over all samples."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from qbench.calibration.shard import Shard
from qbench.calibration.table import CalibrationTable, TableHeader, load_table
from qbench.errors import CalibrationError, UsageError
from qbench.formatting import first_names


def merge_tables(paths: Sequence[Path]) -> CalibrationTable:
    """Return the table of all samples from those of all shards, in any order.

    Raises:
        UsageError: There are less than two tables.
        CalibrationError: A table cannot be read or is no shard, two do not belong together, or a
            shard is given twice or not at all.
    """
    if len(paths) < 2:
        given = "1 table" if paths else "0 tables"
        raise UsageError(f"{given} to merge; give the tables of all shards")
    merged = load_table(paths[0])
    headers = {_shard(merged.header, paths[0]): merged.header}
    for path in paths[1:]:
        table = load_table(path)
        shard = _shard(table.header, path)
        _check_alike(merged, paths[0], table, path)
        if shard in headers:
            raise CalibrationError(f"{path} holds shard {shard}, which is given already; drop it")
        headers[shard] = table.header
        for name, statistics in merged.statistics.items():
            statistics.merge(table.statistics[name])
    _check_complete(headers)
    return CalibrationTable(_whole(headers), merged.statistics)


def _shard(header: TableHeader, path: Path) -> Shard:
    if header.shard is None:
        raise CalibrationError(f"{path} holds all samples, not a shard; use it as it is")
    return header.shard


_ALIKE: dict[str, Callable[[CalibrationTable], object]] = {
    "model": lambda table: table.header.model_sha256,
    "data": lambda table: table.header.data.sha256,
    "recipe": lambda table: table.header.recipe,
    "image size": lambda table: table.header.image_size,
    "number of shards": lambda table: table.header.shard and table.header.shard.count,
    "versions of qbench or its libraries": lambda table: table.header.versions,
    "tensors": lambda table: list(table.statistics),
}
"""What the shards of one table have in common."""


def _check_alike(
    first: CalibrationTable, its_path: Path, other: CalibrationTable, path: Path
) -> None:
    for what, of in _ALIKE.items():
        if of(first) != of(other):
            raise CalibrationError(
                f"the {what} of {path} and {its_path} differ; calibrate all shards alike"
            )


def _check_complete(shards: Mapping[Shard, TableHeader]) -> None:
    count = next(iter(shards)).count
    wanted = (Shard(index, count) for index in range(count))
    if missing := [str(shard) for shard in wanted if shard not in shards]:
        raise CalibrationError(f"shard {first_names(missing)} is missing; give all {count} tables")


def _whole(shards: Mapping[Shard, TableHeader]) -> TableHeader:
    """Return the header of one run over all samples."""
    headers = [shards[shard] for shard in sorted(shards)]
    data = msgspec.structs.replace(
        headers[0].data,
        images=sum(header.data.images for header in headers),
        skipped=tuple(sorted(name for header in headers for name in header.data.skipped)),
    )
    return msgspec.structs.replace(headers[0], data=data, shard=None)
