from pathlib import Path

import numpy as np
import pytest

from qbench.quantization.choice import Choice, Step, load_choice, save_choice

CHOICE = Choice(
    ranges={"x": (0.0, 2.5)},
    factors={"x": np.float32([0.5, 1])},
    float_nodes={"head": "noisy"},
    codes={
        name: np.full((2, 3), code, np.int8)
        for code, name in enumerate(("stem", "file", "allow_pickle", "a/b.npy", ""))
    },
)
STEPS = (Step("rounding", 4, 31.5),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.cpu.choice.json"


def test_a_choice_comes_back_whatever_the_nodes_are_called(path: Path) -> None:
    """`file` and `allow_pickle` are parameters of `numpy.savez`, which names arrays by keyword."""
    save_choice(path, "key", CHOICE, STEPS)
    kept = load_choice(path, "key")
    assert kept is not None
    choice, steps = kept
    assert steps == STEPS
    assert (choice.ranges, choice.float_nodes) == (CHOICE.ranges, CHOICE.float_nodes)
    assert choice.factors["x"].tolist() == [0.5, 1]
    assert {name: codes.tolist() for name, codes in choice.codes.items()} == {
        name: codes.tolist() for name, codes in CHOICE.codes.items()
    }


def test_a_choice_for_something_else_is_none(path: Path) -> None:
    save_choice(path, "key", CHOICE, STEPS)
    assert load_choice(path, "another key") is None
    assert load_choice(path.with_name("gone.choice.json"), "key") is None


def test_codes_of_another_choice_are_not_taken(path: Path) -> None:
    save_choice(path, "other", CHOICE, STEPS)
    codes = path.with_suffix(".npz").read_bytes()
    save_choice(path, "key", CHOICE, STEPS)
    path.with_suffix(".npz").write_bytes(codes)
    assert load_choice(path, "key") is None


@pytest.mark.parametrize("damage", [b"", b"PK", b"\x93NUMPY"])
def test_damaged_codes_are_ignored(path: Path, damage: bytes) -> None:
    save_choice(path, "key", Choice(codes={"a": np.zeros((1, 1), np.int8)}), ())
    assert load_choice(path, "key") is not None
    path.with_suffix(".npz").write_bytes(damage)
    assert load_choice(path, "key") is None


def test_files_that_name_no_coded_nodes_are_ignored(path: Path) -> None:
    """An older version named the arrays by the nodes."""
    save_choice(path, "key", Choice(), STEPS)
    path.write_text(path.read_text().replace('"coded"', '"uncoded"'))
    np.savez(path.with_suffix(".npz"), **{"": np.array("key"), "stem": np.zeros(3, np.int8)})
    assert load_choice(path, "key") is None
