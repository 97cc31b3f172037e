"""Classes with exactly the members that a TensorRT version has.

What a member does comes from a behaviour: a plain class whose public attributes are looked up by
name. A member without one exists, is checked when it is called, and says that it does nothing.
"""

from types import ModuleType
from typing import Any

from fake_trt.calls import accepts, bind, overloads


class _Type(type):
    """Makes sure, as the bindings do, that a derived class calls the constructor of its base."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not getattr(made, "_is_made", False):
            raise TypeError(f"{cls.__name__}.__init__() must be called when overriding __init__")
        return made


class Specced(metaclass=_Type):
    """Base of all classes; a class that a user derives may have more attributes."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if "_spec" in vars(kind) and not name.startswith("_"):
            known = kind._spec.get(name)
            if known is None:
                raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
            if not known.startswith("property ="):
                raise AttributeError(f"property of {kind.__name__!r} object has no setter")
        object.__setattr__(self, name, value)


class Member:
    """A member of an enum of the bindings: no number, but convertible to one."""

    __members__: dict[str, "Member"]

    def __init__(self, name: str, value: int) -> None:
        self.name, self.value = name, value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            raise AttributeError(f"can't set attribute {name!r}")
        object.__setattr__(self, name, value)

    def __int__(self) -> int:
        return self.value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self.value}>"


def make_enum(name: str, members: dict[str, str]) -> type:
    """Return an enum; a second name of a value is an alias."""
    kind = type(name, (Member,), {"__members__": {}})
    by_value: dict[int, Member] = {}
    for member, spec in members.items():
        if spec.startswith("= "):
            value = int(spec[2:])
            kind.__members__[member] = by_value.setdefault(value, kind(member, value))
            setattr(kind, member, by_value[value])
    return kind


def make_class(
    module: ModuleType, name: str, members: dict[str, str], behaviour: type, bases: tuple[type, ...]
) -> type:
    """Return the class `name` of `module`.

    Args:
        module: Whose classes the parameters of methods are.
        name: Of the class.
        members: The spec of each member.
        behaviour: What they do; its private attributes are taken as they are.
        bases: What it derives from, other than `Specced`.
    """
    acts = vars(behaviour)
    body = {key: act for key, act in acts.items() if _is_private(key)}
    body.update(_spec=members, _module=module, __module__=module.__name__)
    for member, spec in members.items():
        if member and spec.startswith("property"):
            body[member] = _property(module, f"{name}.{member}", spec, acts.get(member))
        elif member == "__init__":
            body[member] = _constructor(module, name, spec, acts.get(member))
        elif member and spec.startswith("("):
            body[member] = _method(module, f"{name}.{member}", spec, acts.get(member))
    return _Type(name, bases or (Specced,), body)


def create(kind: type, **state: Any) -> Any:
    """Return an object of a class without a constructor, as the bindings' own methods do."""
    made = kind.__new__(kind)
    for name, value in {"_is_made": True, **state}.items():
        object.__setattr__(made, name, value)
    return made


def _is_private(name: str) -> bool:
    return name.startswith("_") and name not in ("__init__", "__dict__", "__weakref__")


def _constructor(module: ModuleType, name: str, spec: str, act: Any) -> Any:
    signatures = overloads(spec)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if not signatures:
            raise TypeError(f"{name}: No constructor defined!")
        bound = bind(f"{name}.__init__", signatures, module, args, kwargs)
        object.__setattr__(self, "_is_made", True)
        if act is not None:
            act(self, *bound.args, **bound.kwargs)

    return __init__


def _method(module: ModuleType, name: str, spec: str, act: Any) -> Any:
    signatures = overloads(spec)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = bind(name, signatures, module, args, kwargs)
        if act is None:
            raise NotImplementedError(f"the fake TensorRT does nothing for {name}")
        return act(self, *bound.args, **bound.kwargs)

    return method


def _property(module: ModuleType, name: str, spec: str, act: Any) -> property:
    """Return a property; an act that is none is the value until another is set."""
    key = f"_value_of_{name.rpartition('.')[2]}"
    kind = spec.removeprefix("property = ")

    def get(self: Any) -> Any:
        return act.fget(self) if isinstance(act, property) else getattr(self, key, act)

    def set_(self: Any, value: Any) -> None:
        if not accepts(kind, value, module):
            raise TypeError(f"{name}: {value!r} is no {kind}")
        if isinstance(act, property) and act.fset is not None:
            act.fset(self, value)
        else:
            object.__setattr__(self, key, value)

    return property(get, set_ if spec.startswith("property =") else None)
