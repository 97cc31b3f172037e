import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from qbench.data import ahead
from qbench.data.ahead import ReadAhead
from qbench.data.samples import Sample
from qbench.errors import DataError


@dataclass
class Counted:
    """Samples of 8 bytes each; it counts how often each is read."""

    count: int
    corrupt: frozenset[int] = frozenset()
    read: list[int] = field(default_factory=list)
    all_read: threading.Event = field(default_factory=threading.Event)

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return str(index)

    def load(self, index: int) -> Sample:
        self.read.append(index)
        if index == self.count - 1:
            self.all_read.set()
        if index in self.corrupt:
            raise DataError(f"{index} is truncated; replace it")
        return Sample(str(index), {"x": np.full(2, index, np.float32)})

    def digest(self, index: int) -> str:
        raise NotImplementedError

    def fingerprint(self) -> str:
        raise NotImplementedError

    def describe(self) -> str:
        raise NotImplementedError


def test_each_sample_is_read_once() -> None:
    source = Counted(5)
    samples = ReadAhead(source)
    with samples.filling():
        assert source.all_read.wait(10)
    assert [samples.load(index).name for index in (4, 0, 1, 3, 2)] == ["4", "0", "1", "3", "2"]
    assert source.read == [0, 1, 2, 3, 4]


def test_a_sample_is_let_go_of_with_its_reader() -> None:
    source = Counted(1)
    samples = ReadAhead(source)
    with samples.filling():
        assert source.all_read.wait(10)
    assert samples.load(0) is not samples.load(0)


def test_samples_that_wait_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_MOST_BYTES", 20)
    source = Counted(1000)
    samples = ReadAhead(source)
    with samples.filling():
        source.all_read.wait(0.2)
    assert source.read == [0, 1, 2]
    assert [samples.load(index).name for index in range(1000)] == list(map(str, range(1000)))


def test_an_unusable_sample_is_told_to_its_reader() -> None:
    source = Counted(3, corrupt=frozenset({1}))
    samples = ReadAhead(source)
    with samples.filling():
        pass
    assert samples.load(0).name == "0"
    with pytest.raises(DataError, match="1 is truncated"):
        samples.load(1)
    assert samples.load(2).name == "2"


def test_an_error_of_what_is_waited_for_ends_the_reading() -> None:
    source = Counted(10**9)
    with pytest.raises(ValueError, match=r"^broken$"), ReadAhead(source).filling():
        raise ValueError("broken")
    assert len(source.read) < 10**9
