"""Remove Identity nodes, so that patterns of nodes can be seen through them."""

import onnx_ir as ir


def remove_identities(model: ir.Model) -> int:
    """Let all readers of an Identity read its source; return how many Identities vanished.

    Outputs of the model keep their names: a source takes the name of the output that it becomes.
    Subgraphs stay as they are, for their outputs must be made inside them.

    Postcondition: an Identity that is left makes an output of the model out of an input, of a
    constant or of another output.
    """
    removed = 0
    for node in list(model.graph):
        if node.op_type == "Identity" and not node.domain and _bypass(node):
            model.graph.remove(node, safe=True)
            removed += 1
    return removed


def _bypass(node: ir.Node) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None  # Identity has an input by its schema
    becomes_output = output.is_graph_output()
    if becomes_output and (source.producer() is None or source.is_graph_output()):
        return False
    source.shape = output.shape if source.shape is None else source.shape
    source.type = source.type or output.type
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    if becomes_output:
        name, output.name = output.name, None
        source.name = name
    return True
