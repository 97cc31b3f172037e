import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import graphs
import numpy as np
import pytest

import qbench.calibration.collect as collecting
from qbench.calibration.collect import Collection, Settings, collect
from qbench.data import ahead
from qbench.data.samples import Sample, fingerprint
from qbench.errors import CalibrationError, DataError
from qbench.model import parts
from qbench.model.load import Model
from qbench.model.parts import with_outputs
from qbench.model.prepare import prepare
from qbench.placement.targets import TARGETS, observed_tensors
from qbench.runtimes.ort import blocks as ort_blocks


@dataclass(frozen=True)
class Images:
    """Seeded samples, some of which may be corrupt or hold other values."""

    indices: tuple[int, ...]
    corrupt: frozenset[int] = frozenset()
    change: Callable[[int, Any], Any] = field(default=lambda _, array: array)

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return f"{self.indices[index]:02}.png"

    def load(self, index: int) -> Sample:
        number = self.indices[index]
        if number in self.corrupt:
            raise DataError(f"{self.name(index)} is truncated; replace it")
        array = np.random.default_rng(number).normal(size=graphs.IMAGE).astype(np.float32)
        return Sample(self.name(index), {"x": self.change(number, array)})

    def digest(self, index: int) -> str:
        return self.name(index)

    def fingerprint(self) -> str:
        return fingerprint(self)

    def describe(self) -> str:
        return f"{len(self)} images"


@pytest.fixture(scope="module")
def model() -> Model:
    return prepare(graphs.model_of(graphs.residual()))


@pytest.fixture(autouse=True, params=[1, 1 << 30], ids=["in parts", "whole"])
def _fewest_elements(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_FEWEST_ELEMENTS", request.param)


def gather(model: Model, source: Images, threads: int = 1, **options: Any) -> Collection:
    tensors = observed_tensors(model, list(TARGETS))
    return collect(model, tensors, source, Settings(threads), **options)


def identity(collection: Collection) -> dict[str, tuple[object, ...]]:
    return {
        name: (s.count, s.low, s.high, s.total, s.squares, s.exponent, s.counts.tobytes())
        for name, s in collection.statistics.items()
    }


@pytest.mark.parametrize("threads", [2, 3])
def test_the_result_does_not_depend_on_threads(model: Model, threads: int) -> None:
    source = Images(tuple(range(11)))
    assert identity(gather(model, source, threads)) == identity(gather(model, source))


@pytest.mark.parametrize(("most", "workers"), [(1, 1), (1 << 40, 3)])
def test_workers_are_fewer_where_their_tensors_would_not_fit(
    model: Model, monkeypatch: pytest.MonkeyPatch, most: int, workers: int
) -> None:
    """After the first sample, which tells how large they are, all workers meet at a barrier."""
    monkeypatch.setattr(collecting, "_MOST_BYTES", most)
    monkeypatch.setattr(ahead, "_MOST_BYTES", -1)  # reading ahead would meet there, too
    together, seen = threading.Barrier(workers, timeout=10), set[int]()

    def meet(number: int, array: Any) -> Any:
        if number > 0:
            seen.add(threading.get_ident())
            together.wait()
        return array

    found = gather(model, Images((0, 1, 2, 3), change=meet), threads=3)
    assert (found.images, len(seen)) == (4, workers)


def test_the_result_does_not_depend_on_order(model: Model) -> None:
    forwards = gather(model, Images(tuple(range(8))))
    assert identity(gather(model, Images(tuple(range(8))[::-1]))) == identity(forwards)


def test_halves_merge_to_the_whole(model: Model) -> None:
    whole = gather(model, Images(tuple(range(8))))
    first, second = gather(model, Images((0, 1, 2))), gather(model, Images((3, 4, 5, 6, 7)))
    for name, statistics in first.statistics.items():
        statistics.merge(second.statistics[name])
    assert identity(first) == identity(whole)


def test_statistics_are_those_of_the_activations(model: Model) -> None:
    source = Images((0, 1))
    collection = gather(model, source)
    outputs = with_outputs(model.ir, ["stem_relu"])
    values = np.stack([graphs.run(outputs, source.load(i).feeds)["stem_relu"] for i in range(2)])
    statistics = collection.statistics["stem_relu"]
    assert statistics.count == values.size
    assert statistics.high == pytest.approx(values.max(), rel=1e-5)
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-5)
    assert collection.images == 2
    assert collection.inference_seconds > 0


def test_tensors_in_blocks_count_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, source = prepare(graphs.model_of(graphs.linear_bottlenecks(size=16))), Images((0, 1, 2))
    blocked = gather(wide, source, threads=2)
    assert identity(blocked) == identity(gather(wide, source, threads=1))
    monkeypatch.setattr(ort_blocks, "_MOST_BYTES", 0)
    ordered = gather(wide, source)
    assert identity(blocked) != identity(ordered)  # in the last bits of sums, so it was in blocks
    for name, wanted in ordered.statistics.items():
        found = blocked.statistics[name]
        assert (found.count, found.exponent) == (wanted.count, wanted.exponent)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-5)
        assert found.mean == pytest.approx(wanted.mean, rel=1e-5, abs=1e-6)
        assert np.abs(found.counts - wanted.counts).sum() <= 0.001 * wanted.counts.sum()


def test_every_sample_is_reported(model: Model) -> None:
    calls: list[None] = []
    gather(model, Images(tuple(range(5))), 2, on_sample=lambda: calls.append(None))
    assert len(calls) == 5


def test_corrupt_samples_are_skipped_and_named(model: Model) -> None:
    source = Images(tuple(range(20)), corrupt=frozenset({3, 17}))
    collection = gather(model, source, 2)
    assert (collection.images, collection.skipped) == (18, ("03.png", "17.png"))
    rest = Images(tuple(i for i in range(20) if i not in source.corrupt))
    assert identity(collection) == identity(gather(model, rest))


@pytest.mark.parametrize("threads", [1, 3])
def test_too_many_corrupt_samples(model: Model, threads: int) -> None:
    source = Images(tuple(range(10)), corrupt=frozenset({2, 7}))
    with pytest.raises(DataError, match=r"more than 10 % of the samples cannot be used: 2 of 10"):
        gather(model, source, threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_nan_names_tensor_and_sample(model: Model, threads: int) -> None:
    source = Images(tuple(range(6)), change=lambda i, a: a * np.float32(np.nan) if i == 4 else a)
    message = r"tensor 'x' holds NaN or Inf for 04\.png; check the recipe's scale, mean and std"
    with pytest.raises(CalibrationError, match=message):
        gather(model, source, threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_nan_in_an_output_that_no_target_quantizes_is_told(
    threads: int, caplog: pytest.LogCaptureFixture
) -> None:
    b = graphs.Builder()
    b.node("Sqrt", "root", b.node("ReduceMean", "mean", b.x))
    model = prepare(graphs.model_of(b.model("root", b.conv("head", b.conv("stem", b.x)))))
    source = Images(tuple(range(6)), change=lambda i, a: -abs(a) if i in {1, 4} else abs(a))
    gathered = gather(model, source, threads)
    assert "root" not in gathered.statistics
    assert caplog.messages == [
        "output 'root' of the float model holds NaN or Inf for 01.png, 04.png; check the recipe's "
        "scale, mean and std, or the model itself"
    ]


def test_a_tensor_that_is_always_empty() -> None:
    b = graphs.Builder()
    nothing = b.node("NonZero", "nothing", b.node("Sub", "zeros", b.x, b.x))
    rows = b.node("Transpose", "rows", nothing, perm=[1, 0])
    floats = b.node("Cast", "floats", rows, to=1)
    proto = b.model(b.node("MatMul", "product", floats, b.weight("w", 4, 3)))
    with pytest.raises(CalibrationError, match="tensor 'floats' held no values for any sample; gi"):
        gather(prepare(graphs.model_of(proto)), Images((0, 1)))


def test_samples_that_do_not_fit_the_model(model: Model) -> None:
    source = Images((0,), change=lambda _, a: a[:, :3])
    with pytest.raises(DataError, match=r"x \[1, 3, 16, 16\] float32\) does not fit the model's"):
        gather(model, source)


def test_an_interrupt_stops_the_workers(model: Model) -> None:
    seen: list[int] = []

    def interrupt(number: int, array: Any) -> Any:
        seen.append(number)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return array

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        gather(model, Images(tuple(range(1000)), change=interrupt), 2)
    assert len(seen) < 100
