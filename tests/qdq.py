"""Q/DQ models by hand, in the forms in which tools write them."""

from typing import Any

import graphs
import numpy as np
import onnx

CHANNELS = graphs.CHANNELS
U8 = np.uint8(128)
S8 = np.int8(0)


class QdqBuilder(graphs.Builder):
    """A graph builder that quantizes; `code` is the zero-point, whose type is that of the codes."""

    def q(self, x: str, name: str, scale: Any = 0.05, code: Any = U8) -> str:
        return self.node("QuantizeLinear", f"{name}.q", x, *self._parameters(name, scale, code))

    def qdq(self, x: str, name: str, scale: Any = 0.05, code: Any = U8, **attributes: int) -> str:
        parameters = self._parameters(name, scale, code)
        codes = self.node("QuantizeLinear", f"{name}.q", x, *parameters, **attributes)
        return self.node("DequantizeLinear", f"{name}.dq", codes, *parameters, **attributes)

    def qweight(
        self, name: str, shape: tuple[int, ...], axis: int | None = 0, largest: int = 60
    ) -> str:
        """Int8 codes up to `largest` behind a DequantizeLinear, by channel or with one scale."""
        codes = self.random.integers(-largest, largest + 1, shape).astype(np.int8)
        count = () if axis is None else shape[axis]
        scale = self.constant(f"{name}.scale", np.full(count, 0.01, np.float32))
        zero = self.constant(f"{name}.zero", np.zeros(count, np.int8))
        attributes = {} if axis is None or self.opset < 13 else {"axis": axis}
        return self.node(
            "DequantizeLinear",
            f"{name}.dq",
            self.constant(name, codes),
            scale,
            zero,
            **attributes,
        )

    def qconv(self, name: str, x: str, axis: int | None = 0, **attributes: Any) -> str:
        shape = attributes.pop("shape", (CHANNELS, CHANNELS, 3, 3))
        weight = self.qweight(f"{name}.w", shape, axis, attributes.pop("largest", 60))
        return self.node("Conv", name, x, weight, pads=[1] * 4, **attributes)

    def qbias(self, name: str, scale: float, count: int = CHANNELS) -> str:
        parameters = (
            self.constant(f"{name}.scale", np.full(count, scale, np.float32)),
            self.constant(f"{name}.zero", np.zeros(count, np.int32)),
        )
        codes = self.constant(name, np.arange(count, dtype=np.int32))
        return self.node("DequantizeLinear", f"{name}.dq", codes, *parameters, axis=0)

    def _parameters(self, name: str, scale: Any, code: Any) -> list[str]:
        scale = scale if isinstance(scale, str) else np.asarray(scale, np.float32)
        names = [scale if isinstance(scale, str) else self.constant(f"{name}.scale", scale)]
        if code is not None:
            shape = () if isinstance(scale, str) else scale.shape
            names.append(self.constant(f"{name}.zero", np.broadcast_to(code, shape)))
        return names


def conv(code: Any = U8, **options: Any) -> onnx.ModelProto:
    """One convolution, with `code` on both sides."""
    b = QdqBuilder(opset=options.pop("opset", 17))
    x = b.qdq(b.x, "x", options.pop("scale", 0.05), code)
    return b.model(b.qdq(b.qconv("conv", x, **options), "y", code=code))


def gemm(axis: int = 0, bias: str | None = None, *, ends: bool = True, **attributes: Any) -> Any:
    """A Gemm of transposed weights; `bias` is `empty`, `float`, `good` or `bad`."""
    b = QdqBuilder((4, CHANNELS))
    inputs = [b.qdq(b.x, "x"), b.qweight("w", (CHANNELS, CHANNELS), axis)]
    if bias == "float":
        inputs.append(b.constant("b", np.ones(CHANNELS, np.float32)))
    elif bias == "empty":
        inputs.append("")
    elif bias is not None:
        inputs.append(b.qbias("b", 0.05 * 0.01 if bias == "good" else 0.3))
    y = b.node("Gemm", "gemm", *inputs, transB=1, **attributes)
    return b.model(b.qdq(y, "y") if ends else y)
