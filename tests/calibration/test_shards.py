"""Calibration in shards, and what merging refuses."""

from dataclasses import dataclass
from pathlib import Path

import graphs
import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.calibration.calibrate import calibrate, table_path
from qbench.calibration.merge import merge_tables
from qbench.calibration.shard import Shard, parse_shard
from qbench.calibration.table import CalibrationTable, find_table, load_table
from qbench.data.choice import DataChoice
from qbench.errors import CalibrationError, UsageError
from qbench.model.load import Model, load

SAMPLES = 7


@dataclass(frozen=True)
class Job:
    """A model and data in a folder."""

    folder: Path
    model: Model

    def shard(self, shard: Shard | None = None, limit: int | None = None, threads: int = 1) -> Path:
        """Calibrate one shard, or all samples; return the table's path."""
        choice = DataChoice(self.folder / "data.npz", limit=limit)
        path = table_path(self.model, self.folder / "tables", shard)
        calibrate(self.model, choice, shard=shard, threads=threads).save(path)
        return path

    def shards(self, count: int, limit: int | None = None, threads: int = 1) -> list[Path]:
        return [self.shard(Shard(index, count), limit, threads) for index in range(count)]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    onnx.save(graphs.residual(), folder / "m.onnx")
    random = np.random.default_rng(0)
    scales = 2.0 ** np.arange(SAMPLES)[:, None, None, None]
    data = (random.normal(size=(SAMPLES, *graphs.IMAGE[1:])) * scales).astype(np.float32)
    np.savez(folder / "data.npz", x=data)
    return Job(folder, load(folder / "m.onnx"))


def files_of(path: Path) -> list[bytes]:
    return [path.with_suffix(suffix).read_bytes() for suffix in (".json", ".npz")]


@settings(max_examples=8, deadline=None)
@given(st.integers(2, SAMPLES), st.integers(1, 3), st.sampled_from([None, SAMPLES]), st.randoms())
def test_shards_merge_to_the_bytes_of_one_run(
    job: Job, count: int, threads: int, limit: int | None, random: object
) -> None:
    whole = files_of(job.shard())
    paths = job.shards(count, limit, threads)
    random.shuffle(paths)
    merged = job.folder / "merged.json"
    merge_tables(paths).save(merged)
    assert files_of(merged) == whole


def test_a_limit_is_taken_before_the_shards(job: Job) -> None:
    whole = files_of(job.shard(limit=5))
    merge_tables(job.shards(2, limit=5)).save(job.folder / "limited.json")
    assert files_of(job.folder / "limited.json") == whole
    assert b'"images": 5' in whole[0]


def test_a_shard_knows_itself_and_its_own_images(job: Job) -> None:
    header = load_table(job.shard(Shard(1, 4))).header
    assert (header.shard, header.data.images) == (Shard(1, 4), 2)
    assert table_path(job.model, Path("c"), Shard(1, 4)) == Path("c/m.1of4.json")


def test_a_shard_alone_serves_no_model(job: Job, tmp_path: Path) -> None:
    table = load_table(job.shard(Shard(0, 2)))
    with pytest.raises(CalibrationError, match="holds shard 0/2 alone; merge all shards with `qb"):
        table.check_model(job.model.sha256, "m.onnx")
    table.save(tmp_path / "m.json")
    assert find_table(tmp_path, job.model.sha256) is None


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1, 3], r"shard 2/4 is missing; give all 4 tables"),
        ([0, 2], r"shard 1/4, 3/4 is missing; give all 4 tables"),
        ([0, 1, 2, 3, 1], r"m\.1of4\.json holds shard 1/4, which is given already; drop it"),
    ],
)
def test_shards_that_do_not_make_a_whole(job: Job, indices: list[int], message: str) -> None:
    paths = job.shards(4)
    with pytest.raises(CalibrationError, match=message):
        merge_tables([paths[index] for index in indices])


def test_one_table_and_whole_tables_cannot_be_merged(job: Job) -> None:
    whole, part = job.shard(), job.shard(Shard(0, 2))
    with pytest.raises(UsageError, match="1 table to merge; give the tables of all shards"):
        merge_tables([part])
    with pytest.raises(CalibrationError, match=r"m\.json holds all samples, not a shard; use it"):
        merge_tables([part, whole])


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("model", {"model_sha256": "0" * 64}),
        ("data", {"data": {"source": "data", "sha256": "0" * 64, "images": 4}}),
        ("image size", {"image_size": (8, 8)}),
        ("number of shards", {"shard": {"index": 1, "count": 3}}),
        ("versions of qbench or its libraries", {"versions": {"numpy": "0"}}),
    ],
)
def test_tables_that_do_not_belong_together(
    job: Job, tmp_path: Path, what: str, change: dict[str, object]
) -> None:
    first, second = job.shards(2)
    table = load_table(second)
    header = msgspec.convert({**msgspec.to_builtins(table.header), **change}, type(table.header))
    CalibrationTable(header, table.statistics).save(tmp_path / "other.json")
    message = rf"the {what} of .*other\.json and .*m\.0of2\.json differ; calibrate all shards alike"
    with pytest.raises(CalibrationError, match=message):
        merge_tables([first, tmp_path / "other.json"])


@pytest.mark.parametrize("ending", [".json", ".npz"])
def test_a_damaged_table_is_named(job: Job, ending: str) -> None:
    first, second = job.shards(2)
    file = second.with_suffix(ending)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CalibrationError, match=r"m\.1of2\.json is not a calibration table of qbe"):
        merge_tables([first, second])


def test_more_shards_than_samples(job: Job) -> None:
    with pytest.raises(UsageError, match="shard 7/9 of 7 samples is empty; use at most 7 shards"):
        job.shard(Shard(7, 9))


def test_a_shard_is_written_as_a_fraction() -> None:
    assert parse_shard("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"
    assert parse_shard("0/1") is None


@pytest.mark.parametrize("text", ["4/4", "0/0", "x", "", "1", "-1/4", "1/4/4", "1.0/4", "1/x"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match=f"^'{text}' is no shard; for a quarter write 0/4, 1/4"):
        parse_shard(text)


@pytest.mark.parametrize(("index", "count"), [(4, 4), (-1, 4), (0, 1), (0, 0)])
def test_there_is_no_such_shard(index: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"there is no shard {index}/{count}"):
        Shard(index, count)
