"""How weights become codes: scaled by channel, rounded to the nearest code or to a better one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from qbench.placement.plan import Weight
from qbench.quantization.numerics import (
    QuantizationParameters,
    dequantize,
    per_channel_symmetric,
    quantize,
)

ScaleWeights = Callable[[NDArray[Any], int | None], QuantizationParameters]
"""Returns scale and zero-point of a weight along its axis; None is one scale for all of it."""


@dataclass(frozen=True)
class WeightCoding:
    """How weights become codes.

    Attributes:
        scale: What gives a weight its parameters; int8 by channel, if not told otherwise.
        codes: Codes that are not the nearest ones, by the name of the node that reads the weight,
            which no other node does.
    """

    scale: ScaleWeights = per_channel_symmetric
    codes: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def encode(
        self, weight: Weight, array: NDArray[Any]
    ) -> tuple[NDArray[Any], QuantizationParameters]:
        """Return the codes of `array`, and the parameters that they are meant with."""
        parameters = self.scale(array, weight.axis)
        chosen = self.codes.get(weight.reader.node)
        return quantize(array, parameters, weight.axis) if chosen is None else chosen, parameters

    def rounded(self, weight: Weight, array: NDArray[Any]) -> NDArray[Any]:
        """Return weights as their codes stand for them, float32."""
        codes, parameters = self.encode(weight, array)
        return dequantize(codes, parameters, weight.axis)


def int8_coding(bits: int, codes: Mapping[str, NDArray[Any]] | None = None) -> WeightCoding:
    """Return int8 by channel with codes of 8 or 7 `bits`; 7 where full range would saturate."""
    return WeightCoding(partial(per_channel_symmetric, bits=bits), codes or {})
