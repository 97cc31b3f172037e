"""Checks of calls and values against the parameters that TensorRT's bindings state."""

import inspect
from types import ModuleType
from typing import Any

_UNCHECKED = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)


def overloads(spec: str) -> list[inspect.Signature]:
    """Return the signatures of `(a: int, b: str = None) | (c: Dims)`."""
    return [_signature(text) for text in spec.split(" | ")] if spec else []


def bind(
    what: str, signatures: list[inspect.Signature], module: ModuleType, args: Any, kwargs: Any
) -> inspect.BoundArguments:
    """Return the arguments as the first signature takes them that fits.

    Raises:
        TypeError: None does.
    """
    for signature in signatures:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            continue
        parameters = signature.parameters
        if all(accepts(parameters[n].annotation, v, module) for n, v in bound.arguments.items()):
            return bound
    supported = " or ".join(map(str, signatures))
    raise TypeError(
        f"{what}(): incompatible function arguments; supported: {supported}; "
        f"invoked with {args} {kwargs}"
    )


def accepts(kind: Any, value: Any, module: ModuleType) -> bool:
    """Return whether the bindings convert `value` to the type that they name `kind`."""
    if kind in _CHECKS:
        return _CHECKS[kind](value)
    if not isinstance(kind, str):
        return True
    if kind.startswith("list["):
        inner = kind[5:-1]
        return isinstance(value, (list, tuple)) and all(accepts(inner, v, module) for v in value)
    wanted = _class(kind, module)
    if wanted is None:
        return True
    if kind == "Dims" and isinstance(value, (list, tuple)):
        return all(_is_int(dim) for dim in value)
    return isinstance(value, wanted) or (value is None and not hasattr(wanted, "__members__"))


def _signature(text: str) -> inspect.Signature:
    try:
        return inspect.Signature([_parameter(part) for part in _parts(text[1:-1])])
    except ValueError:  # a few bindings name a parameter `in`, or give only an early one a default
        return _UNCHECKED


def _parameter(text: str) -> inspect.Parameter:
    name, _, rest = text.partition(": ")
    kind, is_optional, _ = rest.partition(" = ")
    default = None if is_optional else inspect.Parameter.empty
    where = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, where, default=default, annotation=kind)


def _parts(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _class(kind: str, module: ModuleType) -> Any:
    holder: Any = module
    for name in kind.split("."):
        holder = getattr(holder, name, None)
    return holder


def _is_int(value: Any) -> bool:
    # Members of enums have __index__ as well, and the bindings do not take them.
    return hasattr(value, "__index__") and not hasattr(type(value), "__members__")


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


_CHECKS = {
    "int": _is_int,
    "float": lambda value: isinstance(value, (int, float)),
    "bool": lambda value: isinstance(value, bool) or type(value).__name__ == "bool",
    "str": lambda value: isinstance(value, str),
    "tuple": lambda value: isinstance(value, tuple),
    "list": lambda value: isinstance(value, list),
    "buffer": _is_buffer,
}
