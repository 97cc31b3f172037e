"""What tensors cause alone, however many of them are loaded together."""

from collections.abc import Iterator, Sequence

import graphs
import pytest

from qbench.data.samples import Sample
from qbench.placement.plan import Reader
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching import probe as probing
from qbench.quantization.searching.partly_quantized import PartlyQuantized, Setting
from qbench.quantization.searching.probe import Probe, scalings_of
from qbench.runtimes.base import Tensors


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


def test_what_reads_a_pooled_tensor_gets_its_corrected_bias(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On `cpu` the pooled tensor keeps the scale of its source, but has means of its own."""
    given: list[Setting] = []

    class Noted(PartlyQuantized):
        def run(self, setting: Setting, samples: Sequence[Sample]) -> Iterator[Tensors]:
            given.append(setting)
            return super().run(setting, samples)

    monkeypatch.setattr(probing, "PartlyQuantized", Noted)
    b = graphs.Builder()
    pooled = b.node("MaxPool", "pooled", b.conv("first", b.x), kernel_shape=[2, 2])
    model = graphs.model_of(b.model(b.conv("head", b.conv("second", pooled))))
    quantizer = Quantizer(model, "cpu", graphs.table_of(model), Int8Options())
    probe = Probe(quantizer, [Sample("0", graphs.feeds_of(model))], 100)
    scalings = scalings_of(quantizer, Choice())
    assert "pooled" not in scalings
    probe.of("first", *scalings["first"])
    assert {Reader("second", 1), Reader("second", 2)} == set(given[0].constants)
