"""A transformer encoder in INT8, its LayerNorm as one operator and in parts."""

import graphs
import numpy as np
import pytest

from qbench.model.prepare import prepare
from qbench.placement.targets import TARGETS
from qbench.quantization.options import Int8Options
from qbench.quantization.quantize import quantize

every_layernorm = pytest.mark.parametrize("decomposed_layernorm", [False, True])


@every_layernorm
@pytest.mark.parametrize("target", TARGETS)
def test_the_output_keeps_its_direction(target: str, decomposed_layernorm: bool) -> None:
    model = graphs.model_of(graphs.encoder(decomposed_layernorm))
    options = Int8Options(effort="fast")
    result = quantize(model, target=target, table=graphs.table_of(model), options=options)
    feeds = graphs.feeds_of(model)
    (exact,) = graphs.run(prepare(model).ir, feeds).values()
    (rounded,) = graphs.run(result.ir, feeds).values()
    cosine = np.vdot(exact, rounded) / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert 0.999 < cosine < 1 - 1e-6


@every_layernorm
def test_statistics_by_channel_are_those_of_the_features(decomposed_layernorm: bool) -> None:
    table = graphs.table_of(graphs.model_of(graphs.encoder(decomposed_layernorm)))
    lows = {name: seen.channel_lows for name, seen in table.statistics.items()}
    assert {name: low.size for name, low in lows.items() if low is not None} == {
        **dict.fromkeys(("norm1", "joined", "norm2", "norm3"), 16),
        "gelu": 64,
    }
