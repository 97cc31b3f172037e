"""What tensors cause alone, however many of them are loaded together."""

import graphs
import pytest

from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching import probe as probing
from qbench.quantization.searching.partly_quantized import PartlyQuantized
from qbench.quantization.searching.probe import Probe, scalings_of


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_tensors_loaded_together_cause_what_they_do_alone(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []

    class Counted(PartlyQuantized):
        def __init__(self, *args: object) -> None:
            loads.append(args)
            super().__init__(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(probing, "PartlyQuantized", Counted)
    model = graphs.model_of(graphs.residual())
    quantizer = Quantizer(model, target, graphs.table_of(model), Int8Options())
    probe = Probe(quantizer, [Sample(str(s), graphs.feeds_of(model, s)) for s in range(2)], 100)
    scalings = scalings_of(quantizer, Choice())
    alone = {tensor: probe.of(tensor, *one) for tensor, one in scalings.items()}
    assert len(loads) == len(scalings) > 2
    loads.clear()
    probe.unload()
    probe.expect(scalings)
    together = {tensor: probe.of(tensor, *one) for tensor, one in scalings.items()}
    assert len(loads) <= len(scalings) / 2
    assert together == pytest.approx(alone, rel=0.01)
    assert min(alone.values()) > 0
