import graphs
import numpy as np
import pytest

from qbench.calibration.ranges import Range
from qbench.data.samples import Sample
from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization.equalization import equalized_name
from qbench.quantization.refine import Refiner


def refiner_for(target: str, trials: int = 100) -> tuple[Refiner, dict[str, Range]]:
    """A refiner of the pattern whose channels differ widely, and its ranges by histogram."""
    model = prepare(graphs.model_of(graphs.fragile()))
    plan, table = place(model, target), graphs.table_of(model)
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(3)]
    refiner = Refiner(model.ir, plan, table.statistics, 8, samples, trials)
    ranges = {t: table.range_of(t, "mse", symmetric=plan.symmetric) for t in plan.observed}
    return refiner, ranges


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_tensor_with_unlike_channels_is_found_worst(target: str) -> None:
    refiner, ranges = refiner_for(target)
    noise = refiner.noise_of_each(ranges)
    assert max(noise, key=lambda tensor: noise[tensor]) == "unlike"


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_no_tensor_is_worse_off(target: str) -> None:
    refiner, ranges = refiner_for(target)
    choice = refiner.refined(ranges)
    assert set(ranges) <= set(choice.ranges)
    for tensor, clip in ranges.items():
        if tensor not in choice.factors:
            before = refiner.noise_of(tensor, clip, None)
            assert refiner.noise_of(tensor, choice.ranges[tensor], None) <= before


def test_an_equalized_tensor_has_its_range_under_its_new_name() -> None:
    refiner, ranges = refiner_for("tensorrt")
    choice = refiner.refined(ranges)
    assert list(choice.factors) == ["unlike"]
    clip = choice.ranges[equalized_name("unlike")]
    equalized = refiner.noise_of("unlike", clip, choice.factors["unlike"])
    assert equalized < 0.5 * refiner.noise_of("unlike", choice.ranges["unlike"], None)
    assert np.isfinite(choice.factors["unlike"]).all()


def test_without_trials_the_ranges_stay() -> None:
    refiner, ranges = refiner_for("tensorrt", trials=0)
    choice = refiner.refined(ranges)
    assert (dict(choice.ranges), dict(choice.factors)) == (ranges, {})
