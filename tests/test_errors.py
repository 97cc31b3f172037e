import re

from qbench import errors


def classes() -> dict[str, type[errors.QbenchError]]:
    found = vars(errors).values()
    return {c.__name__: c for c in found if isinstance(c, type) and issubclass(c, Exception)}


def drawn_tree() -> dict[str, tuple[int, str]]:
    """Exit code and parent of every class as the module's docstring draws them."""
    tree: dict[str, tuple[int, str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+)\s+(\d)  ", line)
        if match:
            branch, name, code = match.groups()
            del path[len(branch) // 4 :]
            tree[name] = (int(code), path[-1] if path else "Exception")
            path.append(name)
    return tree


def test_the_docstring_draws_the_tree() -> None:
    real = {name: (c.exit_code, c.__bases__[0].__name__) for name, c in classes().items()}
    assert drawn_tree() == real


def test_every_class_says_what_it_is_for() -> None:
    assert [name for name, c in classes().items() if not c.__doc__] == []
