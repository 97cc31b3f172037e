from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qbench.quantization.choice import Choice
from qbench.quantization.searching import freeing
from qbench.quantization.searching.trial import Trial


def test_a_round_in_vain_does_not_keep_a_ruined_model_from_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noises = iter([0.52, 0.1, 0.09])
    quantizer: Any = None

    def one_more(_: object, choice: Choice, *__: object) -> Choice:
        floats = dict(choice.float_nodes)
        return replace(choice, float_nodes={**floats, f"node{len(floats)}": "noisy"})

    def trial(choice: Choice, noise: float) -> Trial:
        graph: Any = SimpleNamespace(plan=None)
        return Trial(graph, choice, noise, np.array([noise]))

    monkeypatch.setattr(freeing, "freed", one_more)
    best = freeing.freed_by_work(
        trial(Choice(), 0.5), quantizer, {}, lambda choice: trial(choice, next(noises))
    )
    assert (best.noise, len(best.choice.float_nodes)) == (0.09, 3)


def test_no_node_is_looked_for_where_all_noise_costs_less_than_any_could() -> None:
    divider: Any = SimpleNamespace()
    assert not freeing.could_pay(0.003, divider)
    assert freeing.could_pay(0.01, divider)
    assert not freeing.could_pay(freeing.GOAL, None)
    assert freeing.could_pay(1.1 * freeing.GOAL, None)
