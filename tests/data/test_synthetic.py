import numpy as np
import pytest

from qbench.data.synthetic import SyntheticSource
from qbench.errors import DataError
from qbench.model.spec import TensorSpec


def spec(*shape: int | str | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("x", shape, np.dtype(dtype))


def test_seeded_and_of_the_right_shape() -> None:
    specs = [spec("N", 3, 8, 8), TensorSpec("ids", (4, 5), np.dtype(np.int64))]
    source = SyntheticSource(specs, count=3, seed=1)
    sample = source.load(2)
    assert (len(source), sample.name) == (3, "synthetic[2]")
    assert sample.feeds["x"].shape == (1, 3, 8, 8)
    assert sample.feeds["ids"].shape == (4, 5)  # the batch is fixed
    again = SyntheticSource(specs, count=3, seed=1).load(2)
    assert np.array_equal(sample.feeds["x"], again.feeds["x"])
    assert not np.array_equal(sample.feeds["x"], source.load(1).feeds["x"])
    other = SyntheticSource(specs, count=3, seed=2)
    assert not np.array_equal(sample.feeds["x"], other.load(2).feeds["x"])
    assert source.describe() == "3 random samples (seed 1)"


def test_fingerprint_follows_seed_count_and_inputs() -> None:
    sources = [
        SyntheticSource([spec(1, 4)], 3, 0),
        SyntheticSource([spec(1, 4)], 3, 1),
        SyntheticSource([spec(1, 4)], 4, 0),
        SyntheticSource([spec(1, 5)], 3, 0),
        SyntheticSource([spec(1, 4, dtype="float16")], 3, 0),
    ]
    assert len({source.fingerprint() for source in sources}) == len(sources)
    assert sources[0].fingerprint() == SyntheticSource([spec(1, 4)], 3, 0).fingerprint()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("float16", -6, 6), ("uint8", 0, 255), ("int32", 0, 1), ("bool", False, True)],
)
def test_values(dtype: str, low: int, high: int) -> None:
    array = SyntheticSource([spec("N", 5000, dtype=dtype)], 1, 0).load(0).feeds["x"]
    assert array.dtype == dtype
    assert low <= array.min() < array.max() <= high
    if dtype != "float16":
        assert (array.min(), array.max()) == (low, high)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("N", 3, "H", "W"), (1, 3, 32, 48)),
        ((None, None, None, 3), (1, 32, 48, 3)),
        (("N", 3, 16, "W"), (1, 3, 16, 48)),
        ((), ()),
    ],
)
def test_open_image_dimensions_take_the_size(
    shape: tuple[int | str | None, ...], expected: tuple[int, ...]
) -> None:
    source = SyntheticSource([spec(*shape)], 1, 0, size=(32, 48))
    assert source.load(0).feeds["x"].shape == expected


def test_the_batch_of_a_recurrent_state_lies_behind() -> None:
    specs = [spec("N", 64), TensorSpec("state", (2, "N", 16), np.dtype(np.float32))]
    sample = SyntheticSource(specs, 1, 0).load(0)
    assert [array.shape for array in sample.feeds.values()] == [(1, 64), (2, 1, 16)]
    assert sample.batch == 1


def test_an_image_whose_dimensions_all_have_one_name_takes_the_size() -> None:
    source = SyntheticSource([spec("?", 3, "?", "?")], 1, 0, size=(32, 48))
    assert source.load(0).feeds["x"].shape == (1, 3, 32, 48)


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_dimensions_that_stay_open(size: tuple[int, int] | None) -> None:
    message = r"input 'x' \[N,seq\] is dynamic beyond its batch; give --size 640 .* --data FILE"
    with pytest.raises(DataError, match=message):
        SyntheticSource([spec("N", "seq")], 1, 0, size=size)
    for shape in (("N", "C", "H", "W"), ("N", "seq", "seq")):
        with pytest.raises(DataError, match="is dynamic beyond its batch"):
            SyntheticSource([spec(*shape)], 1, 0, size=size)


def test_strings_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match="is of type object, which cannot be drawn at random"):
        SyntheticSource([spec(1, 3, dtype="object")], 1, 0)
