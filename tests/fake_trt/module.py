"""The fake module: the API of one version, with the behaviours that it has room for."""

from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from fake_trt import basics, building, config, executing, inspecting, parsing, running
from fake_trt.api import FUNCTIONS, Api, read_api
from fake_trt.calls import bind, overloads
from fake_trt.spec import make_class, make_enum

# The dumps do not tell what derives from what.
_BASES = {
    "Logger": "ILogger",
    "IInt8EntropyCalibrator": "IInt8Calibrator",
    "IInt8EntropyCalibrator2": "IInt8Calibrator",
    "IInt8LegacyCalibrator": "IInt8Calibrator",
    "IInt8MinMaxCalibrator": "IInt8Calibrator",
}
_SEVERITY = "ILogger.Severity"
_MODULES = (basics, building, config, executing, inspecting, parsing, running)


class _Nothing:
    """The behaviour of classes that the project does not use, or derives from."""


def behaviours() -> dict[str, type]:
    """Return the behaviour of each class that has one."""
    found = [value for module in _MODULES for value in vars(module).values()]
    own = {module.__name__ for module in _MODULES}
    return {kind.__name__: kind for kind in found if isinstance(kind, type) and _is(kind, own)}


def functions() -> dict[str, Any]:
    """Return what the functions of the module do."""
    return {name: getattr(basics, name) for name in ("init_libnvinfer_plugins", "volume")}


def fake_tensorrt(version: str) -> ModuleType:
    """Return a module like that of TensorRT `version`: `10.0.1`, `11.4`, `rtx-1.7`, ...

    Raises:
        KeyError: The API of that version is not known.
    """
    api = read_api(version)
    module: Any = ModuleType(api.module)
    module.__version__ = api.full_version
    module.__spec__ = ModuleSpec(api.module, None, origin="fake")
    for name, members in api.holders.items():
        if members.get("") == "enum":
            _place(module, name, make_enum(name.rpartition(".")[2], members))
    for name in sorted(api.holders, key=_BASES.__contains__):
        if api.holders[name].get("") == "class":
            setattr(module, name, _class(module, name, api))
    for name, spec in api.holders[FUNCTIONS].items():
        setattr(module, name, _function(module, name, spec))
    return module


def _is(kind: type, own: set[str]) -> bool:
    return kind.__module__ in own and kind.__name__[0] != "_"


def _place(module: Any, name: str, kind: type) -> None:
    # The one inner enum waits under a private name for the class that holds it.
    setattr(module, "_severity" if name == _SEVERITY else name, kind)


def _class(module: Any, name: str, api: Api) -> type:
    members = api.holders[name]
    behaviour = behaviours().get(name, _Nothing)
    base = getattr(module, _BASES.get(name, ""), None)
    bases: tuple[type, ...] = (base,) if base else ()
    if name == "IHostMemory":
        bases = (bytes,)
    kind = make_class(module, name, members, behaviour, bases)
    for member, spec in members.items():
        if spec == f"class {_SEVERITY}":
            setattr(kind, member, module._severity)
        elif spec.startswith("constant"):
            setattr(kind, member, getattr(module._severity, member))
    return kind


def _function(module: Any, name: str, spec: str) -> Any:
    signatures, act = overloads(spec), functions().get(name)

    def function(*args: Any, **kwargs: Any) -> Any:
        bound = bind(name, signatures, module, args, kwargs)
        if act is None:
            raise NotImplementedError(f"the fake TensorRT does nothing for {name}")
        return act(*bound.args, **bound.kwargs)

    return function
