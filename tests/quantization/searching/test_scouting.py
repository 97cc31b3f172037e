"""How few glances it takes to find out which tensors harm the output."""

from typing import Any

import graphs
import numpy as np
import pytest

from qbench.calibration.ranges import rounding_noise
from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching import scouting
from qbench.quantization.searching.probe import GLANCE, Probe, scalings_of
from qbench.quantization.searching.scouting import noise_by_halves, noise_of_each, noise_of_worst


class Known:
    """Stands in for a probe: the noises of tensors are known, and add up."""

    def __init__(self, noises: dict[str, float], runs: int = 1000) -> None:
        self.noises, self.left, self.glances = noises, runs, 0

    def glance(self, scalings: dict[str, Any]) -> float:
        self.left -= GLANCE
        self.glances += 1
        return sum(self.noises[name] for name in scalings)


def probe_of(target: str, runs: int) -> tuple[Probe, Quantizer]:
    """A probe of the pattern whose tensor `unlike` has channels that differ widely."""
    model = graphs.model_of(graphs.fragile())
    quantizer = Quantizer(model, target, graphs.table_of(model), Int8Options())
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(3)]
    return Probe(quantizer, samples, runs), quantizer


def halved(probe: Any, least: float, runs: int = 1000) -> dict[str, float]:
    scalings: Any = dict.fromkeys(probe.noises)
    return noise_by_halves(probe, scalings, sum(probe.noises.values()), least, runs)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("way", ["each", "halves", "worst"])
def test_the_tensor_with_unlike_channels_is_found_worst(target: str, way: str) -> None:
    probe, quantizer = probe_of(target, 400)
    scalings = scalings_of(quantizer, Choice())
    if way == "worst":
        noise = noise_of_worst(probe, scalings, quantizer)
    else:
        runs = 200 if way == "each" else 18
        noise = noise_of_each(probe, scalings, probe.glance(scalings), 1e-5, runs)
    assert max(noise, key=lambda tensor: noise[tensor]) == "unlike"


def test_a_group_that_harms_little_is_not_looked_into() -> None:
    probe = Known({f"{i}": 0.5 if i == 3 else 1e-4 for i in range(64)})
    found = halved(probe, least=0.01)
    assert found["3"] == 0.5
    assert found["60"] == pytest.approx(1e-4)
    assert probe.glances == 2 * 4 + 4  # two halves of 64, 32, 16 and 8, each of the last 4


def test_where_no_runs_are_left_the_least_harmful_groups_are_not_looked_into() -> None:
    probe = Known({f"{i}": 2.0**-i for i in range(16)})
    found = halved(probe, least=0.0, runs=8 * GLANCE)
    assert found["0"] == 1
    assert found["15"] == found["8"]
    assert probe.glances == 8


def test_of_tensors_that_lose_most_by_rounding_few_glances_find_those_that_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{i}" for i in range(64)]
    harmful = names[::8]
    monkeypatch.setattr(scouting, "rounding_noise", lambda name, _: 1.0 if name in harmful else 0.1)
    quantizer: Any = type("Stub", (), {"statistics_of": staticmethod(lambda name: name)})
    scalings: Any = dict.fromkeys(names, type("Stub", (), {"range": (0.0, 1.0)}))
    probe: Any = Known({name: 0.1 if name in harmful else 1e-5 for name in names})
    found = noise_of_worst(probe, scalings, quantizer)
    assert {name for name, noise in found.items() if noise > 0.01} == set(harmful)
    assert probe.glances < len(names) / 2


def test_rounding_loses_more_in_a_range_that_is_too_wide_or_too_narrow() -> None:
    _, quantizer = probe_of("cpu", 0)
    statistics = quantizer.statistics_of("unlike")
    low, high = quantizer.ranges()["unlike"]
    lost = [rounding_noise(statistics, (low * by, high * by)) for by in (0.1, 1, 10)]
    assert 0 < lost[1] < min(lost[0], lost[2])
    assert np.isfinite(lost).all()
