"""The layers of an engine, as TensorRT's engine inspector lists them on a GPU.

TensorRT 10 and 11 give one JSON document. The layers are told alike in both; the tensors of the
engine are called `Bindings` in the one and `I/O Tensors` in the other, and are not needed here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from qbench.errors import EngineError
from qbench.runtimes.element_types import type_in
from qbench.runtimes.tensorrt.layers import INT8, EngineLayer, EngineTensor

# ASCII's record and unit separators part the nodes, so that a name may hold brackets itself.
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f]|$)")
_TYPES = ("Datatype", "DataType", "Format/Datatype")
_WEIGHTS = ("Weights", "Bias")
# Kernels whose products of int8 are summed in int32 say so in their names.
_INTEGER_KERNEL = re.compile(r"_i8i32_")


def inspect_engine(module: ModuleType, engine: Any, logger: Any) -> str | None:
    """Return what the engine inspector says about an engine that was built here, as JSON.

    The engine must have been built with `ProfilingVerbosity.DETAILED`. It is loaded, so this needs
    the GPU that it was built for.

    Args:
        module: The module of TensorRT.
        engine: The serialized engine, as bytes or as the builder returns it.
        logger: The `ILogger` that takes TensorRT's messages.

    Returns:
        The document that `layers_from_inspector` reads; None where the engine cannot be loaded.
    """
    runtime = module.Runtime(logger)
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True  # version-compatible engines carry some
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        return None
    return inspected(module, loaded)


def inspected(module: ModuleType, engine: Any) -> str:
    """Return what the engine inspector says about an engine that is loaded, as JSON."""
    inspector = engine.create_engine_inspector()
    text: str = inspector.get_engine_information(module.LayerInformationFormat.JSON)
    return text


def layers_from_inspector(text: str) -> tuple[EngineLayer, ...]:
    """Return the layers that the engine inspector lists.

    None are returned of an engine that was built without `ProfilingVerbosity.DETAILED`, of which
    only the names of layers are known.

    Raises:
        EngineError: `text` is not what an engine inspector prints.
    """
    try:
        # TensorRT writes the separators of node names as they are, which strict JSON forbids.
        document = json.loads(text, strict=False)
    except ValueError as error:
        raise EngineError(
            f"the engine inspector printed no JSON ({error}); the engine cannot be audited"
        ) from error
    layers = document.get("Layers") if isinstance(document, dict) else None
    if not isinstance(layers, list):
        raise EngineError(
            'the engine inspector printed JSON without "Layers"; the engine cannot be audited'
        )
    return tuple(_layer(layer) for layer in layers if isinstance(layer, dict))


def _layer(layer: Mapping[str, Any]) -> EngineLayer:
    inputs = tuple(_tensors(layer, "Inputs"))
    constants = (*_tensors(layer, "Constants"), *_weights(layer))
    tactic = str(layer.get("TacticName", ""))
    if len(inputs) == 1 and not constants and _INTEGER_KERNEL.search(tactic):
        constants = (EngineTensor("Weights", INT8),)  # which nothing but the kernel's name tells
    return EngineLayer(
        name=str(layer.get("Name", "")),
        kind=str(layer.get("LayerType", "")),
        inputs=inputs,
        constants=constants,
        outputs=tuple(_tensors(layer, "Outputs")),
        nodes=tuple(_NODE.findall(str(layer.get("Metadata", "")))),
        tactic=tactic,
    )


def _tensors(layer: Mapping[str, Any], key: str) -> Iterator[EngineTensor]:
    for tensor in layer.get(key) or ():
        told = next((str(tensor[name]) for name in _TYPES if name in tensor), "")
        yield EngineTensor(str(tensor.get("Name", "")), _dtype(told))


def _weights(layer: Mapping[str, Any]) -> Iterator[EngineTensor]:
    """Yield the constants of layers that tell type and number of their weights only."""
    for name in _WEIGHTS:
        held = layer.get(name)
        if isinstance(held, dict) and held.get("Count") != 0:
            yield EngineTensor(name, _dtype(str(held.get("Type", ""))))


def _dtype(text: str) -> str:
    """Return the type in a text such as `Row major Int8 format`; the text where none is known."""
    found = type_in(text)
    return (found and found.in_logs) or text
