from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbench.data.samples import (
    Sample,
    Skips,
    files_below,
    fingerprint,
    sample_name,
    subset,
    without,
)
from qbench.errors import DataError, UsageError


@dataclass(frozen=True)
class Numbers:
    count: int

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{index:04}"

    def load(self, index: int) -> Sample:
        return Sample(self.name(index), {"x": np.full((1, 2), index)})

    def digest(self, index: int) -> str:
        return f"digest {index}"

    def fingerprint(self) -> str:
        return fingerprint(self)

    def describe(self) -> str:
        return f"{self.count} numbers"


def bad(name: str) -> DataError:
    return DataError(f"{name} is truncated")


def test_skips_up_to_a_tenth_are_counted_and_named() -> None:
    skips = Skips(20)
    assert (skips.names, skips.describe()) == ((), "")
    skips.add("b.jpg", bad("b.jpg"))
    skips.add("a.jpg", bad("a.jpg"))
    assert skips.names == ("a.jpg", "b.jpg")
    assert skips.describe() == "2 of 20 skipped: a.jpg, b.jpg (a.jpg is truncated)"


def test_skips_beyond_a_tenth_are_an_error() -> None:
    skips = Skips(39)
    for name in "abc":
        skips.add(name, bad(name))
    message = r"more than 10 % .*: 4 of 39 skipped: a, b, c and 1 more \(a is truncated\); replace"
    with pytest.raises(DataError, match=message):
        skips.add("d", bad("d"))


def test_skips_from_threads() -> None:
    skips = Skips(10_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: skips.add(f"{n:04}", bad(str(n))), range(1000)))
    assert len(skips.names) == 1000


@given(total=st.integers(1, 500), limit=st.integers(1, 500))
def test_subset_is_evenly_spaced(total: int, limit: int) -> None:
    source = Numbers(total)
    some = subset(source, limit)
    if limit >= total:
        assert some is source
        return
    chosen = [int(some.name(index)) for index in range(len(some))]
    assert len(chosen) == limit
    assert chosen[0] >= 0
    assert chosen[-1] < total
    gaps = set(np.diff(chosen))
    assert gaps <= {total // limit, -(-total // limit)}


def test_subset_passes_everything_on() -> None:
    source = Numbers(100)
    some = subset(source, 5)
    assert subset(source, None) is source
    assert some.load(2).name == some.name(2)
    assert some.load(2).feeds["x"][0, 0] == int(some.name(2))
    assert some.digest(2) == f"digest {int(some.name(2))}"
    assert some.describe() == "5 of 100 numbers"
    assert some.fingerprint() != source.fingerprint()


def test_subset_of_nothing() -> None:
    with pytest.raises(UsageError, match="cannot take 0 samples; give a limit of at least 1"):
        subset(Numbers(3), 0)


def test_without_some_the_others_keep_their_order_and_names() -> None:
    source = Numbers(5)
    some = without(source, ["0003", "0000", "unknown"])
    assert [some.name(index) for index in range(len(some))] == ["0001", "0002", "0004"]
    assert without(source, []) is source


def test_fingerprint_ignores_order_and_sees_names_and_contents() -> None:
    class Backwards(Numbers):
        def name(self, index: int) -> str:
            return f"{self.count - 1 - index:04}"

        def digest(self, index: int) -> str:
            return f"digest {self.count - 1 - index}"

    class Renamed(Numbers):
        def name(self, index: int) -> str:
            return f"{index:05}"

    class Changed(Numbers):
        def digest(self, index: int) -> str:
            return f"digest {index + (index == 3)}"

    reference = fingerprint(Numbers(5))
    assert fingerprint(Backwards(5)) == reference
    assert len({reference, *map(fingerprint, (Renamed(5), Changed(5), Numbers(4)))}) == 4


def test_files_below(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.jpeg", "a.b/c.png", ".hidden/x.jpg", "a/.x.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    found = files_below(tmp_path, (".jpg", ".jpeg", ".png"))
    assert found == ("a.b/c.png", "a/z.jpeg", "b.JPG", "broken.jpg")


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    """Sets of a few classes are often made of links to the folders of a large one."""
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data / "cat", other / "deep"):
        folder.mkdir(parents=True)
    for file in (data / "cat" / "1.jpg", other / "2.jpg", other / "deep" / "3.jpg"):
        file.touch()
    (data / "dog").symlink_to(other)
    (data / "emu").symlink_to(Path("..") / "other")  # a folder may be there twice
    (data / "again").symlink_to(data)
    (other / "back").symlink_to(data)
    (data / "self.jpg").symlink_to(data / "self.jpg")
    found = files_below(data, (".jpg",))
    assert found == (
        "cat/1.jpg",
        *(f"{name}/{file}" for name in ("dog", "emu") for file in ("2.jpg", "deep/3.jpg")),
        "self.jpg",
    )


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read folder .*gone: No such file.*; check its"):
        files_below(tmp_path / "gone", (".jpg",))


@pytest.mark.parametrize("path", ["a/b.jpg", "./a/b.jpg", "a\\b.jpg", ".\\a\\b.jpg"])
def test_names_in_labels_are_those_of_samples(path: str) -> None:
    assert sample_name(path) == "a/b.jpg"
