"""Whatever the project uses of TensorRT exists in the versions in which it is used."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest
from fake_trt import Api, fake_tensorrt, read_api
from fake_trt.calls import overloads
from trt_api import extract
from trt_uses import (
    ALL,
    RECEIVERS,
    RTX,
    TEN,
    UNSEEN,
    USES,
    files_that_may_touch_it,
    uses_in_source,
)

from qbench.engines.compiling.config import COMPATIBILITIES, OPTIONS
from qbench.engines.compiling.implicit import _FLAGS, CALIBRATORS, _with_cache, _with_images
from qbench.engines.compiling.io_formats import FORMATS
from qbench.engines.compiling.targets import DEFAULT_TARGETS
from qbench.runtimes.tensorrt.engine_file import _DTYPES

ASKED_OF_THEM = ("get_batch_size", "get_batch", "read_calibration_cache", "write_calibration_cache")
"""What TensorRT asks of a calibrator, which classes of `implicit` answer."""

FLAG_OPTIONS = ("sparsity", "tf32", "refit", "strip_weights", "weight_streaming")


def missing(members: dict[str, tuple[str, ...]]) -> list[str]:
    """Return those of `members` that a version of theirs lacks."""
    return [
        f"{member} in {version}"
        for member, wanted in members.items()
        for version in wanted
        if not read_api(version).has(member)
    ]


def takes(api: Api, member: str, keyword: str) -> bool:
    holder, _, name = member.rpartition(".")
    return any(keyword in overload.parameters for overload in overloads(api.holders[holder][name]))


def test_no_file_is_overlooked() -> None:
    assert sorted(files_that_may_touch_it() - set(RECEIVERS)) == []


def test_what_is_used_is_declared() -> None:
    found = uses_in_source()
    undeclared = {member: found[member].places for member in found.keys() - USES - UNSEEN}
    assert undeclared == {}
    assert sorted((USES.keys() | UNSEEN) - found.keys()) == []


def test_what_is_declared_exists() -> None:
    assert missing(USES) == []


def test_every_receiver_is_one() -> None:
    used = {member.rpartition(".")[0] for member in uses_in_source()}
    kinds = {kind for receivers in RECEIVERS.values() for kind in receivers.values()}
    assert sorted(kinds - used - {"module"}) == []


def test_keywords_are_known() -> None:
    found = [(member, word) for member, use in uses_in_source().items() for word in use.keywords]
    assert found
    unknown = [
        (member, word, version)
        for member, word in found
        for version in USES[member]
        if not takes(read_api(version), member, word)
    ]
    assert unknown == []


def test_names_that_are_looked_up_exist() -> None:
    """Of names that stand in tables, whose code asks before it uses one."""
    flags = [member for field in FLAG_OPTIONS for member in OPTIONS[field].needs(True)]
    formats = {f"TensorFormat.{member}": ALL for member in FORMATS.values()}
    levels = {f"HardwareCompatibilityLevel.{member}" for member in COMPATIBILITIES.values()}
    same = "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"
    since = tuple(version for version in ALL if version not in ("10.0.1", "10.3", "10.8"))
    types = {f"DataType.{member}": ALL for member in _DTYPES}
    targets = {f"ComputeCapability.{name.upper()}" for name in DEFAULT_TARGETS}
    assert missing(dict.fromkeys(flags, ALL) | formats | types) == []
    assert missing(dict.fromkeys(levels - {same}, ALL) | {same: since}) == []
    assert missing(dict.fromkeys(targets, RTX)) == []
    assert missing({"ITimingCache": ALL, "BuilderFlag.VERSION_COMPATIBLE": ALL}) == []


def test_calibrators_are_of_tensorrt_10() -> None:
    members = [f"BuilderFlag.{flag}" for flag in _FLAGS]
    members += [kind for kind, _ in CALIBRATORS.values()]
    members += [f"{kind}.{name}" for kind, _ in CALIBRATORS.values() for name in ASKED_OF_THEM]
    assert missing(dict.fromkeys(members, TEN)) == []
    others = [version for version in ALL if version not in TEN]
    assert not any(read_api(version).has(member) for member in members for version in others)
    module = fake_tensorrt("10.3")
    for name, (kind, _) in CALIBRATORS.items():
        for made in (_with_cache(module, name, ""), _with_images(module, name, MagicMock())):
            own = [member for member in vars(type(made)) if not member.startswith("_")]
            assert isinstance(made, getattr(module, kind))
            assert sorted(own) == sorted(ASKED_OF_THEM)


def test_the_check_would_find_what_is_gone() -> None:
    assert missing({"BuilderFlag.FP16": ALL})[0] == "BuilderFlag.FP16 in 11.0"
    assert missing({"ICudaEngine.device_memory_size": ("11.4",), "Builder.x": ("11.4",)}) == [
        "ICudaEngine.device_memory_size in 11.4",
        "Builder.x in 11.4",
    ]


@pytest.mark.parametrize(
    ("signature", "found"),
    [
        ("f(self: trt.A, b: typing.SupportsInt = 0) -> trt.B", ["self: A", "b: int = 0"]),
        ("f(a: List[Tuple[int, bool]], b: buffer)", ["a: list[tuple[int, bool]]", "b: buffer"]),
        ("f(a: nvinfer1::X = <X.Y: 3>)", ["a: X = X.Y"]),
    ],
)
def test_parameters_are_worded_alike_for_all_versions(signature: str, found: list[str]) -> None:
    assert extract.parameters(signature) == found


def test_members_are_merged_over_versions() -> None:
    def dump(version: str, members: dict[str, object]) -> dict[str, object]:
        return {
            "version": version,
            "functions": {},
            "classes": {"E": {"kind": "enum", "members": members}},
        }

    dumps = {"10.8": dump("10.8.0.43", {"A": 0, "B": 1}), "11.0": dump("11.0.0.1", {"B": 0})}
    assert extract.to_text(["10.8", "11.0"], dumps).splitlines()[2:6] == [
        '"E": {',
        '  "": {"enum": "*"},',
        '  "A": {"= 0": "10.8"},',
        '  "B": {"= 1": "10.8", "= 0": "11.0"}',
    ]


def test_versions_are_named_and_ordered() -> None:
    names = [
        extract.version_of(Path(f"api-{name}.json"))
        for name in ("rtx-1.7", "11.4", "10.8.0.43", "10.0.1")
    ]
    assert names == ["rtx-1.7", "11.4", "10.8", "10.0.1"]
    assert sorted(names, key=extract.sort_key) == ["10.0.1", "10.8", "11.4", "rtx-1.7"]
