"""Whether two runs were made on the same machine, so that their milliseconds can be compared."""

from typing import Any

from qbench.benchmarking.environment import Environment, machine_of


def machine_differences(before: Environment, after: Environment) -> tuple[str, ...]:
    """Return what differs between two machines, one phrase each; nothing where they are alike."""
    return _differences(machine_of(before), machine_of(after))


def software_differences(before: Environment, after: Environment) -> tuple[str, ...]:
    """Return the packages and systems that differ, which a comparison may be about."""
    return _differences(_software(before), _software(after))


def _software(environment: Environment) -> dict[str, Any]:
    return {**environment.versions, "Python": environment.python, "system": environment.os}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{name} {_text(before.get(name))} then, {_text(after.get(name))} now"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    )


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(value) or "none"
    return "unknown" if value is None else str(value)
