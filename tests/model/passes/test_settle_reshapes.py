"""Which computed shapes become constant, and that any batch size still fits."""

import graphs
import numpy as np
import onnx

from qbench.model.graph import constant
from qbench.model.prepare import prepare


class Exporter(graphs.Builder):
    """Writes what PyTorch's exporter does for `x.size(axis)`."""

    def size(self, name: str, x: str, axis: int) -> str:
        shape = self.node("Shape", f"{name}_shape", x)
        index = self.constant(f"{name}_index", np.int64(axis))
        one = self.node("Gather", f"{name}_size", shape, index)
        return self.node("Unsqueeze", name, one, self.constant(f"{name}_axes", np.array([0])))

    def sizes(self, *sizes: str | int) -> str:
        given = (
            self.constant(f"const_{place}", np.array([size])) if isinstance(size, int) else size
            for place, size in enumerate(sizes)
        )
        return self.node("Concat", "sizes", *given, axis=0)


def settled(proto: onnx.ModelProto, batches: tuple[int, ...] = (1, 3)) -> list[int] | None:
    """Return the Reshape's shape once the model is prepared, which must not change its results."""
    model = graphs.model_of(proto)
    prepared = prepare(model).ir
    for batch in batches:
        feeds = {
            spec.name: np.random.default_rng(0)
            .normal(size=[size if isinstance(size, int) else batch for size in spec.shape])
            .astype(np.float32)
            for spec in model.inputs
        }
        wanted, found = (graphs.run(one, feeds) for one in (model.ir, prepared))
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    (reshape,) = [node for node in prepared.graph if node.op_type == "Reshape"]
    shape = constant(reshape.inputs[1])
    has_shapes = any(node.op_type == "Shape" for node in prepared.graph)
    assert has_shapes == (shape is None)
    return None if shape is None else shape.tolist()


def test_the_batch_is_kept_and_the_rest_is_one_axis() -> None:
    b = Exporter(("N", 8, 4, 4))
    x = b.conv("conv", b.x)
    flat = b.node("Reshape", "flat", x, b.sizes(b.size("n", b.x, 0), -1))
    assert settled(b.model(b.node("Relu", "y", flat))) == [0, -1]


def test_one_size_that_is_not_known_is_what_is_left() -> None:
    b = Exporter(("N", 8, 4, 4))
    rows = b.node("Mul", "rows", b.size("n", b.x, 0), b.constant("two", np.array([2])))
    flat = b.node("Reshape", "flat", b.x, b.sizes(rows, 64))
    assert settled(b.model(b.node("Relu", "y", flat))) == [-1, 64]


def test_a_size_behind_a_pad_that_becomes_a_part_of_a_convolution() -> None:
    b = Exporter(("N", 8, 4, 4))
    pads = b.node("Cast", "pads", b.constant("amounts", np.float32([0, 0, 1, 1, 0, 0, 1, 1])), to=7)
    x = b.conv("conv", b.node("Pad", "pad", b.x, pads), pads=[0] * 4)
    flat = b.node("Reshape", "flat", x, b.sizes(b.size("n", b.x, 0), -1))
    assert settled(b.model(b.node("Relu", "y", flat))) == [0, -1]


def test_sizes_that_inference_does_not_follow_are_those_of_a_concat() -> None:
    b = Exporter(("N", 8, 4, 4))
    batch = b.size("n", b.x, 0)
    for name in ("floored", "once"):
        batch = b.node("Floor", name, b.node("Cast", f"{name}_in", batch, to=1))
    rows = b.node("Cast", "rows", batch, to=7)
    flat = b.node("Reshape", "flat", b.x, b.sizes(rows, 128))
    assert settled(b.model(b.node("Relu", "y", flat))) == [-1, 128]


def test_sizes_of_one_name_are_not_taken_for_the_same() -> None:
    b = Exporter(("?", 8, "?", 4))
    rows = b.conv("conv", b.x)
    flat = b.node("Reshape", "flat", rows, b.sizes(b.size("h", b.x, 2), b.size("n", b.x, 0), 8, 4))
    relu = b.node("Relu", "y", flat)
    model = graphs.model_of(b.model(relu))
    feeds = {"x": np.ones((3, 8, 6, 4), np.float32)}
    wanted, found = (graphs.run(one, feeds)["y"] for one in (model.ir, prepare(model).ir))
    assert found.shape == wanted.shape == (6, 3, 8, 4)


def test_two_sizes_that_are_not_known_stay_computed() -> None:
    b = Exporter(("N", 8, "N", 4))
    swapped = b.node("Transpose", "swapped", b.x, perm=[1, 3, 0, 2])
    sizes = b.sizes(b.size("n", b.x, 0), b.size("h", b.x, 2), 4, 8)
    flat = b.node("Reshape", "flat", swapped, sizes)
    assert settled(b.model(b.node("Relu", "y", flat))) is None


def test_what_is_an_output_of_the_model_stays_computed() -> None:
    b = Exporter(("N", 8, 4, 4))
    assert settled(b.model(b.node("Reshape", "y", b.x, b.sizes(b.size("n", b.x, 0), -1)))) is None


def test_no_size_that_is_kept_becomes_one_of_zero() -> None:
    b = Exporter(("N", 8, 4, 4))
    sizes = b.sizes(b.size("n", b.x, 0), 128)
    flat = b.node("Reshape", "flat", b.x, sizes, allowzero=1)
    assert settled(b.model(b.node("Relu", "y", flat))) == [0, 128]
