import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbench.engines.profiles import (
    ShapeProfile,
    ShapeRange,
    check_profiles,
    format_shape,
    parse_profiles,
    parse_shapes,
    profile_for,
    profiles_for,
    shapes_of,
)
from qbench.errors import UsageError
from qbench.model.spec import TensorSpec

SHAPES = st.lists(st.integers(0, 5000), min_size=1, max_size=6).map(tuple)


def spec(*shape, name="x"):
    return TensorSpec(name, shape, np.dtype(np.float32))


def same(*shape):
    return ShapeRange(shape, shape, shape)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=1x3x64x64", {"x": same(1, 3, 64, 64)}),
        ("x:1x3", {"x": same(1, 3)}),
        ("x=1x3/8x3/16x3", {"x": ShapeRange((1, 3), (8, 3), (16, 3))}),
        ("x=1x3, y:7", {"x": same(1, 3), "y": same(7)}),
        ("serving_default_x:0=1x3", {"serving_default_x:0": same(1, 3)}),
        ("in:0:1x3", {"in:0": same(1, 3)}),
    ],
)
def test_parse(text, expected):
    assert parse_shapes([text]) == expected


def test_parse_several_texts():
    assert parse_shapes(["a=1", "b=2"]) == {"a": same(1), "b": same(2)}


@given(
    st.tuples(SHAPES, SHAPES, SHAPES), st.sampled_from("=:"), st.sampled_from(["x", "a:0", "a/b.c"])
)
def test_parse_reads_what_format_writes(shapes, separator, name):
    text = "/".join(map(format_shape, shapes))
    assert parse_shapes([f"{name}{separator}{text}"]) == {name: ShapeRange(*shapes)}


@pytest.mark.parametrize(
    "text", ["", "x", "x=", "=1x3", "x=1x-1", "x=1x3/2x3", "x=1,3,4", "x=axb", "1x3"]
)
def test_parse_malformed(text):
    with pytest.raises(UsageError, match=r"malformed shape '.*'; write NAME=1x3x640x640"):
        parse_shapes([text])


def test_parse_twice():
    with pytest.raises(UsageError, match="input 'x' has two shapes"):
        parse_shapes(["x=1x3", "x=2x3"])


def test_static_inputs_need_no_profile():
    assert profile_for([spec(1, 3, 8, 8)], {}, (32, 32)) == (None, ())
    assert profile_for([spec(1, 3)], {"x": same(1, 3)}, None) == (None, ())


def test_given_ranges_are_taken_silently():
    shapes = ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 16, 8))
    specs = [spec("N", 3, None, 8), spec(5, name="y")]
    assert profile_for(specs, {"x": shapes}, None) == (ShapeProfile({"x": shapes}), ())


@pytest.mark.parametrize(
    ("shape", "expected", "why"),
    [
        (("N", 3, "H", "W"), (1, 3, 320, 480), "batch 1 and the size of the images"),
        (("N", None, None, 3), (1, 320, 480, 3), "batch 1 and the size of the images"),
        ((2, 3, "H", 100), (2, 3, 320, 100), "batch 1 and the size of the images"),
        ((None, 3, 24, 24), (1, 3, 24, 24), "batch 1;"),
    ],
)
def test_default_is_batch_one_and_the_recipes_size(shape, expected, why):
    profile, notes = profile_for([spec(*shape)], {}, (320, 480))
    assert profile == ShapeProfile({"x": same(*expected)})
    assert len(notes) == 1
    assert f"input 'x' is dynamic; built for {format_shape(expected)}, {why}" in notes[0]
    assert "choose with --shapes x=" in notes[0]


def test_a_dynamic_batch_needs_no_recipe():
    profile, notes = profile_for([spec("N", 7)], {}, None)
    assert profile == ShapeProfile({"x": same(1, 7)})
    assert "batch 1;" in notes[0]


def test_inputs_share_the_range_of_a_dimension_with_one_name():
    specs = [spec("N", 3, "H", 8), spec("N", "T", "H", name="y"), spec("N", 3, "H", "W", name="z")]
    given = {
        "x": ShapeRange((1, 3, 8, 8), (4, 3, 16, 8), (8, 3, 32, 8)),
        "y": ShapeRange((1, 2, 8), (4, 2, 16), (8, 2, 32)),
    }
    profile, (note,) = profile_for(specs, given, (64, 64))
    # What has no range comes from the images all the same.
    shared = ShapeRange((1, 3, 8, 64), (4, 3, 16, 64), (8, 3, 32, 64))
    assert profile.inputs == {**given, "z": shared}
    assert "built for 1x3x8x64/4x3x16x64/8x3x32x64, as other inputs with its dimensions" in note


def test_a_dimension_without_a_name_is_nobody_elses():
    specs = [spec(None, 3), spec(None, 3, name="y")]
    profile, _ = profile_for(specs, {"x": same(4, 3)}, None)
    assert profile.inputs["y"] == same(1, 3)


@pytest.mark.parametrize(
    ("shape", "size", "example"),
    [
        (("N", 3, "H", "W"), None, "x=1x3x224x224"),
        (("N", "C", "H", "W"), (32, 32), "x=1x3x224x224"),
        (("N", "T", 80), (32, 32), "x=1x64x80"),
    ],
)
def test_unknown_size_is_an_error(shape, size, example):
    with pytest.raises(UsageError, match=rf"'x' is dynamic .* give --shapes {example}$"):
        profile_for([spec(*shape)], {}, size)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (same(1, 3, 8), r"shape 1x3x8 of input 'x' has 3 dimensions; the model's Nx3x\?x8 has 4"),
        (
            same(1, 4, 8, 8),
            "dimension 1 of input 'x' is fixed to 3 in the model; give 3 in place of 4",
        ),
        (
            ShapeRange((2, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8)),
            "dimension 0 of input 'x' is 2/1/4; it must hold",
        ),
        (
            ShapeRange((1, 3, 8, 8), (4, 3, 8, 8), (2, 3, 8, 8)),
            "dimension 0 of input 'x' is 1/4/2; it must hold",
        ),
        (same(1 << 64, 3, 8, 8), "it must hold 1 <= min <= opt <= max <= 2147483647"),
        (same(0, 3, 8, 8), "dimension 0 of input 'x' is 0/0/0; it must hold 1 <= min"),
    ],
)
def test_impossible_ranges(shapes, message):
    with pytest.raises(UsageError, match=message):
        profile_for([spec("N", 3, None, 8)], {"x": shapes}, None)


def test_impossible_range_of_a_static_input():
    with pytest.raises(UsageError, match="fixed to 3"):
        profile_for([spec(1, 3)], {"x": same(1, 4)}, None)


def test_unknown_input_names_the_choices():
    with pytest.raises(UsageError, match="no input 'image'; its inputs are x, y"):
        profile_for([spec(1), spec(1, name="y")], {"image": same(1)}, None)


def test_shapes_of_covers_static_inputs():
    specs = [spec("N", 3), spec(5, name="y")]
    profile, _ = profile_for(specs, {}, None)
    assert shapes_of(specs, profile) == {"x": same(1, 3), "y": same(5)}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], [{}]),
        (["a=1", "b=2"], [{"a": same(1), "b": same(2)}]),
        (["a=1,b=2"], [{"a": same(1), "b": same(2)}]),
        (["a=1", "a=3"], [{"a": same(1)}, {"a": same(3)}]),
        (["a=1,b=2", "b=4"], [{"a": same(1), "b": same(2)}, {"a": same(1), "b": same(4)}]),
        (
            ["a=1", "b=2", "a=3", "b=4"],
            [{"a": same(1), "b": same(2)}, {"a": same(3), "b": same(4)}],
        ),
    ],
)
def test_an_input_named_again_begins_the_next_profile(texts, expected):
    assert list(parse_profiles(texts)) == expected


def test_one_text_does_not_name_an_input_twice():
    with pytest.raises(UsageError, match="input 'x' has two shapes; give one"):
        parse_profiles(["x=1x3,x=2x3"])


def test_profiles_for_each_range():
    specs = [spec("N", 3), spec("M", name="y")]
    profiles, notes = profiles_for(specs, parse_profiles(["x=1x3", "x=8x3"]), None)
    assert profiles == tuple(ShapeProfile({"x": same(batch, 3), "y": same(1)}) for batch in (1, 8))
    assert len(notes) == 1
    assert profiles_for([spec(1)], [{}], None) == ((), ())


def test_a_static_model_has_one_profile():
    with pytest.raises(
        UsageError, match="2 profiles are given, but every input of the model is st"
    ):
        profiles_for([spec(1, 3)], parse_profiles(["x=1x3", "x=1x3"]), None)


def test_every_profile_has_to_fit():
    with pytest.raises(UsageError, match="fixed to 3 in the model; give 3 in place of 4"):
        check_profiles([spec("N", 3)], parse_profiles(["x=1x3", "x=1x4"]))
