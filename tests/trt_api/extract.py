"""Extract what the tests need from dumps of TensorRT's public Python API.

A dump is a JSON file for each version, `api-<version>.json`, with every class, its members and the
signatures that the bindings state. The extract keeps names, parameters and enum values, says for
each in which versions it exists, and has one member a line, so that a diff can be read.

    python tests/trt_api/extract.py FOLDER_OF_DUMPS tests/trt_api/api.json
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# The bindings of some versions were made by another pybind11, which words types differently.
_SPELLINGS = (
    (r"(trt|nvonnxparser|nvinfer1|v_1_0)(\.|::)", ""),
    (r"typing\.Supports(Int|Float)", lambda match: match[1].lower()),
    (r"collections\.abc\.Sequence|\bList\b", "list"),
    (r"\bDict\b", "dict"),
    (r"\bTuple\b", "tuple"),
    (r"typing_extensions\.Buffer", "buffer"),
    (r"typing_extensions\.CapsuleType", "capsule"),
    (r" = <(\w+)\.(\w+): \d+>", r" = \1.\2"),
)


def main() -> None:
    """Write the extract of a folder of dumps."""
    folder, output = map(Path, sys.argv[1:])
    dumps = {version_of(path): json.loads(path.read_text()) for path in folder.glob("api-*.json")}
    output.write_text(to_text(sorted(dumps, key=sort_key), dumps), "utf-8")


def version_of(path: Path) -> str:
    """Return `10.8` of `api-10.8.0.43.json`, and `rtx-1.7` of `api-rtx-1.7.json`."""
    name = path.stem.removeprefix("api-")
    if name == "10.0.1":
        return name  # the oldest that is supported, by its full name
    return re.sub(r"^(\d+\.\d+)\..*", r"\1", name)


def sort_key(version: str) -> tuple[bool, list[int]]:
    """Order versions by number, those of TensorRT for RTX last."""
    return version.startswith("rtx"), [int(part) for part in re.findall(r"\d+", version)]


def to_text(versions: list[str], dumps: dict[str, Any]) -> str:
    """Return the extract as JSON."""
    merged: dict[str, dict[str, dict[str, list[str]]]] = {}
    for version in versions:
        for holder, member, spec in specs(dumps[version]):
            members = merged.setdefault(holder, {})
            have = members.setdefault(member, {}).setdefault(spec, [])
            if version not in have:
                have.append(version)
    lines = [f'"": {json.dumps({v: dumps[v]["version"] for v in versions})}']
    for holder in sorted(merged):
        rows = ",\n".join(
            f"  {json.dumps(member)}: {json.dumps(ranges(found, versions))}"
            for member, found in sorted(merged[holder].items())
        )
        lines.append(f"{json.dumps(holder)}: {{\n{rows}\n}}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def ranges(found: dict[str, list[str]], versions: list[str]) -> dict[str, str]:
    """Return the versions of each spec as text; `*` for all."""
    return {spec: "*" if have == versions else " ".join(have) for spec, have in found.items()}


def specs(dump: Any) -> Iterator[tuple[str, str, str]]:
    """Yield holder, member and spec of everything that a version has; see `fake_trt.api`."""
    for name, signatures in dump["functions"].items():
        yield "()", name, overloads(signatures)
    for name, found in dump["classes"].items():
        yield name, "", found["kind"]
        for member, entry in found["members"].items():
            if isinstance(entry, int):
                yield name, member, f"= {entry}"
            elif entry["kind"] == "class":
                yield name, member, f"class {entry['name']}"
                yield entry["name"], "", "enum"
                for inner, value in entry["members"].items():
                    yield entry["name"], inner, f"= {value}"
            else:
                yield name, member, member_spec(entry)


def member_spec(entry: dict[str, Any]) -> str:
    """Return the spec of a method, property or constant."""
    if entry["kind"] == "value":
        return f"constant {entry['type']}"
    if entry["kind"] == "property":
        setters = [parameters(text)[1] for text in entry.get("set", [])]
        types = "".join(text.partition(":")[2] for text in setters)
        return f"property ={types or ' object'}" if entry.get("settable") else "property"
    return overloads(entry.get("signatures", []))


def overloads(signatures: Iterable[str]) -> str:
    """Return `(a: int) | (b: str = '')` of a method, without `self`."""
    found = [parameters(text) for text in signatures]
    kept = [[p for p in words if not p.startswith("self:")] for words in found]
    return " | ".join(f"({', '.join(words)})" for words in kept)


def parameters(signature: str) -> list[str]:
    """Return the parameters of a signature, in one wording for all versions."""
    text = signature[signature.index("(") + 1 :]
    for pattern, wording in _SPELLINGS:
        text = re.sub(pattern, wording, text)
    words, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            break
        if character == "," and depth == 0:
            words.append("")
        else:
            words[-1] += character
    return [word.strip() for word in words if word.strip()]


if __name__ == "__main__":
    main()
