"""Fuse strided slices that are stacked for a convolution (a Focus layer) into it.

YOLOX and the first releases of YOLOv5 cut each image into four, of every second row and column, and
stack these as channels. A convolution that reads them with k x k weights computes what one with
2k x 2k weights and twice the stride computes of the image itself.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from qbench.model.graph import (
    add_initializer,
    constant,
    integer,
    ints,
    is_constant,
    only_user,
    static_shape,
)

_SPATIAL_START = 2

_WHOLE = (0, 1)
"""Start and step of an axis that is not sliced."""

_NO_END = 2**31 - 1
"""Ends from here on are those of exporters for `x[::2]`."""


class _Stack(NamedTuple):
    """Slices of one tensor, stacked as channels.

    Attributes:
        source: What is sliced.
        step: Of all slices, along every spatial axis.
        starts: Of each slice, by spatial axis.
    """

    source: ir.Value
    step: int
    starts: list[tuple[int, ...]]


def sliced_convolutions(model: ir.Model) -> tuple[str, ...]:
    """Return the names of the Conv nodes that `fuse_slices` would change."""
    return tuple(conv.name or "" for conv in model.graph if _stack_before(conv))


def fuse_slices(model: ir.Model) -> int:
    """Fuse stacks of all strided slices into the Conv that alone reads them; return how many.

    With a step of s, ``w'[o, c, s*i + a, s*j + b] = w[o, n(a, b)*C + c, i, j]``, where the slice
    number n(a, b) starts at a and b of C channels; strides and pads become s times as large.
    Slices and Concat stay, for others may read them.

    Postcondition: no ungrouped, undilated Conv of constant weights and explicit pads is the only
    reader of a Concat of all slices of one tensor.
    """
    fused = 0
    for conv in model.graph:
        stack = _stack_before(conv)
        if stack is not None:
            _fuse(model.graph, conv, stack)
            fused += 1
    return fused


def _stack_before(conv: ir.Node) -> _Stack | None:
    if conv.domain or conv.op_type != "Conv" or conv.inputs[0] is None:
        return None
    concat, shape = conv.inputs[0].producer(), static_shape(conv.inputs[1])
    if concat is None or concat.op_type != "Concat" or only_user(concat.outputs[0]) is not conv:
        return None
    if shape is None or not is_constant(conv.inputs[1]) or not _is_plain(conv):
        return None
    is_by_channel = integer(concat, "axis", 0) in {1, 1 - len(shape)}
    return _stack(concat.inputs, len(shape)) if is_by_channel else None


def _is_plain(conv: ir.Node) -> bool:
    is_dense = integer(conv, "group", 1) == 1 and set(ints(conv, "dilations", [1])) == {1}
    return is_dense and conv.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"


def _stack(parts: Sequence[ir.Value | None], rank: int) -> _Stack | None:
    """Return what `parts` are together; None where they are not all slices of one tensor."""
    cuts = [_cut(part, rank) for part in parts]
    source, every = cuts[0][0], [cut for _, cut in cuts]
    steps = {step for cut in every for _, step in cut[_SPATIAL_START:]}
    if len(steps) != 1 or source is None or any(other is not source for other, _ in cuts):
        return None
    if any(cut[:_SPATIAL_START] != [_WHOLE] * _SPATIAL_START for cut in every):
        return None
    step = steps.pop()
    starts = [tuple(start for start, _ in cut[_SPATIAL_START:]) for cut in every]
    wanted = list(product(range(step), repeat=rank - _SPATIAL_START))
    return _Stack(source, step, starts) if step > 1 and sorted(starts) == wanted else None


def _cut(value: ir.Value | None, rank: int) -> tuple[ir.Value | None, list[tuple[int, int]]]:
    """Return what is sliced in the end, and start and step by axis."""
    cut = [_WHOLE] * rank
    while value is not None and (node := value.producer()) is not None:
        taken = _open_slices(node, rank)
        if taken is None or any(cut[axis] != _WHOLE for axis in taken):
            break
        for axis, one in taken.items():
            cut[axis] = one
        value = node.inputs[0]
    return value, cut


def _open_slices(node: ir.Node, rank: int) -> dict[int, tuple[int, int]] | None:
    """Return start and step by axis of a Slice that goes on to the end of each axis, else None."""
    if node.domain or node.op_type != "Slice":
        return None
    arrays = [constant(value) for value in node.inputs[1:]]
    known = [[int(number) for number in array] for array in arrays if array is not None]
    if len(known) < len(arrays):
        return None
    starts, ends, *more = known
    axes = more[0] if more else list(range(len(starts)))
    steps = more[1] if len(more) > 1 else [1] * len(starts)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    taken = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = shape[axis] if shape is not None else None
        if start < 0 or step < 1 or end < (size if isinstance(size, int) else _NO_END):
            return None
        taken[axis % rank] = (start, step)
    return taken


def _fuse(graph: ir.Graph, conv: ir.Node, stack: _Stack) -> None:
    weight = constant(conv.inputs[1])
    assert weight is not None  # or there would be no stack
    outputs, inputs, *kernel = weight.shape
    channels = inputs // len(stack.starts)
    fused = np.zeros((outputs, channels, *(stack.step * size for size in kernel)), weight.dtype)
    for number, start in enumerate(stack.starts):
        window = tuple(slice(first, None, stack.step) for first in start)
        part = weight[:, number * channels : (number + 1) * channels]
        fused[(slice(None), slice(None), *window)] = part
    conv.replace_input_with(0, stack.source)
    conv.replace_input_with(1, add_initializer(graph, f"{conv.name}_weight_unsliced", fused))
    axes = len(kernel)
    changed = {
        "kernel_shape": kernel,
        "strides": ints(conv, "strides", [1] * axes),
        "pads": ints(conv, "pads", [0] * 2 * axes),
    }
    for name, numbers in changed.items():
        larger = [stack.step * number for number in numbers]
        conv.attributes[name] = ir.AttrInt64s(name, larger)
