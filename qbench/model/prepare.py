"""Bring a model into the shape that calibration, placement and every target expect.

Preparation is deterministic: tensor names of the prepared graph are the keys of calibration tables.
"""

import logging
from dataclasses import replace

import onnx_ir as ir
from onnx_ir.passes import common

from qbench.model.graph import subgraph_nodes, unused_name
from qbench.model.load import Model
from qbench.model.passes.fold_constants import fold_constants
from qbench.model.passes.fuse_batchnorm import fuse_batchnorm
from qbench.model.passes.fuse_pad import fuse_pad
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.model.passes.opset import MINIMUM_OPSET, raise_opset
from qbench.model.passes.remove_identities import remove_identities
from qbench.model.passes.settle_reshapes import settle_reshapes
from qbench.model.passes.simplify_gemm import simplify_gemm

logger = logging.getLogger(__name__)

_CHANGES = (fold_constants, fuse_batchnorm, fuse_pad, simplify_gemm, remove_identities)


def prepare(model: Model) -> Model:
    """Return a prepared copy of `model`, which computes the same within float rounding.

    Local functions are inlined, constants are folded, BatchNormalization and Pad are fused into
    their convolution, Gemm is simplified, identities are removed, a Reshape computes no shape that
    can be a constant, every node has a unique name, shapes are inferred and the opset is at least
    `MINIMUM_OPSET`. Dynamic dimensions stay dynamic.

    Raises:
        ModelError: The opset cannot be raised.
    """
    lift = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    flat = ir.passes.Sequential(common.InlinePass(), lift)(model.ir.clone()).model
    tidy = ir.passes.Sequential(
        lift,  # what raising the opset adds
        common.RemoveInitializersFromInputsPass(),
        common.NameFixPass(),
    )
    graph_model = tidy(raise_opset(flat, MINIMUM_OPSET)).model
    infer_shapes(graph_model)
    for change in _CHANGES:
        count = change(graph_model)
        logger.debug("%s: %d nodes", change.__name__, count)
    infer_shapes(graph_model)
    while settle_reshapes(graph_model):
        infer_shapes(graph_model)  # by which the sizes behind are known, too
    finished = common.RemoveUnusedNodesPass()(graph_model).model
    common.NameFixPass()(finished)
    _tell_nodes_apart(finished)
    return replace(model, ir=finished)


def _tell_nodes_apart(model: ir.Model) -> None:
    """Give nodes in subgraphs names that no other node has, which ONNX does not ask for."""
    taken: set[str | None] = {node.name for node in model.graph}
    for node in subgraph_nodes(model):
        node.name = unused_name(node.name or node.op_type, taken)
        taken.add(node.name)
