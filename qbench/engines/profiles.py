"""Optimization profiles: the minimal, usual and maximal shapes of dynamic inputs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qbench.errors import UsageError
from qbench.model.spec import Shape, TensorSpec, is_image, shape_text, with_image_size

_DIMS = r"\d+(?:x\d+)*"
_LARGEST = (1 << 31) - 1
"""No tensor that an engine could hold has a larger dimension."""

# The name ends at the last separator: TensorFlow's names hold colons of their own.
_ENTRY = re.compile(rf"(?P<name>.+)[=:](?P<shapes>{_DIMS}(?:/{_DIMS}/{_DIMS})?)")


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of one input for which an engine is built: from `min` to `max`, best at `opt`."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class ShapeProfile:
    """The ranges of all dynamic inputs, by input name."""

    inputs: Mapping[str, ShapeRange]


def parse_shapes(texts: Sequence[str]) -> dict[str, ShapeRange]:
    """Read shapes as a user writes them.

    `x=1x3x640x640` gives one shape, `x=1x3x640x640/8x3x640x640/16x3x640x640` the minimal, usual and
    maximal one; `x:1x3x640x640` is read as well, and several inputs are separated by commas.

    Raises:
        UsageError: A text is malformed, or names an input twice.
    """
    ranges: dict[str, ShapeRange] = {}
    for entry in (part.strip() for text in texts for part in text.split(",")):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise UsageError(
                f"malformed shape {entry!r}; write NAME=1x3x640x640, "
                "or NAME=MIN/OPT/MAX such as NAME=1x3x640x640/8x3x640x640/16x3x640x640"
            )
        if match["name"] in ranges:
            raise UsageError(f"input {match['name']!r} has two shapes; give one")
        ranges[match["name"]] = _range(match["shapes"])
    return ranges


def parse_profiles(texts: Sequence[str]) -> tuple[dict[str, ShapeRange], ...]:
    """Read the shapes of one or several optimization profiles as a user writes them.

    Each text is read as by `parse_shapes`. One that names an input again begins the next profile;
    otherwise it adds its inputs to the profile before it. An input that a further profile leaves
    out keeps its range from the first one.

    Raises:
        UsageError: A text is malformed, or names an input twice.
    """
    profiles: list[dict[str, ShapeRange]] = [{}]
    for text in texts:
        ranges = parse_shapes([text])
        if profiles[-1].keys() & ranges.keys():
            profiles.append({})
        profiles[-1].update(ranges)
    return tuple(profiles[0] | ranges for ranges in profiles)


def profile_for(
    specs: Sequence[TensorSpec],
    given: Mapping[str, ShapeRange],
    image_size: tuple[int, int] | None,
) -> tuple[ShapeProfile | None, tuple[str, ...]]:
    """Return the profile to build with, and what has to be said aloud about it.

    Args:
        specs: The inputs of the model.
        given: What the user asked for, by input name.
        image_size: Height and width that the preprocessing recipe produces, where there is one.

    Returns:
        The ranges of the dynamic inputs (None where every input is static), and one note for each
        input whose shape was chosen here.

    Raises:
        UsageError: `given` names no input or contradicts its shape, or a dynamic input has neither
            a given nor an obvious shape.
    """
    check_shapes(specs, given)
    shared = shared_dimensions(specs, given)
    dynamic = [spec for spec in specs if not is_static(spec)]
    chosen = {
        spec.name: default_range(spec, shared, image_size)
        for spec in dynamic
        if spec.name not in given
    }
    ranges = {spec.name: given.get(spec.name) or chosen[spec.name][0] for spec in dynamic}
    notes = tuple(note for _, note in chosen.values())
    return (ShapeProfile(ranges) if ranges else None), notes


def shared_dimensions(
    specs: Sequence[TensorSpec], given: Mapping[str, ShapeRange]
) -> dict[str, tuple[int, int, int]]:
    """Return the ranges of dimensions by the names that the model has for them.

    Those of the first input hold where several are given for one name.
    """
    shared: dict[str, tuple[int, int, int]] = {}
    for spec in specs:
        shapes = given.get(spec.name)
        if shapes is not None:
            ranges = zip(shapes.min, shapes.opt, shapes.max, strict=True)
            for dim, limits in zip(spec.shape, ranges, strict=False):
                if isinstance(dim, str):
                    shared.setdefault(dim, limits)
    return shared


def default_range(
    spec: TensorSpec,
    shared: Mapping[str, tuple[int, int, int]],
    image_size: tuple[int, int] | None,
) -> tuple[ShapeRange, str]:
    """Return the shapes of a dynamic input that has none given, and a note that says why.

    Dimensions that have the name of one in `shared` have its range.

    Raises:
        UsageError: A dimension is not to be guessed.
    """
    # One of these for the minimal, one for the usual and one for the maximal shape.
    narrowed = [
        tuple(
            shared[dim][part] if isinstance(dim, str) and dim in shared else dim
            for dim in spec.shape
        )
        for part in range(3)
    ]
    specs = (TensorSpec(spec.name, shape, spec.dtype) for shape in narrowed)
    shapes = ShapeRange(*(_default_shape(part, image_size) for part in specs))
    return shapes, _note(spec, shapes, narrowed[0] != spec.shape, image_size)


def profiles_for(
    specs: Sequence[TensorSpec],
    given: Sequence[Mapping[str, ShapeRange]],
    image_size: tuple[int, int] | None,
) -> tuple[tuple[ShapeProfile, ...], tuple[str, ...]]:
    """Return the profiles to build with, and what has to be said aloud about them.

    Arguments, notes and errors are those of `profile_for`, for each of `given`.

    Raises:
        UsageError: As in `profile_for` and `check_profiles`.
    """
    check_profiles(specs, given)
    made = [profile_for(specs, ranges, image_size) for ranges in given]
    return tuple(profile for profile, _ in made if profile is not None), made[0][1]


def check_profiles(specs: Sequence[TensorSpec], given: Sequence[Mapping[str, ShapeRange]]) -> None:
    """Make sure that the shapes of every profile fit the inputs `specs`.

    Raises:
        UsageError: Those of one do not, or several profiles are given for a static model.
    """
    for ranges in given:
        check_shapes(specs, ranges)
    if len(given) > 1 and all(is_static(spec) for spec in specs):
        raise UsageError(
            f"{len(given)} profiles are given, but every input of the model is static; "
            "give --shapes once, or none"
        )


def check_shapes(specs: Sequence[TensorSpec], given: Mapping[str, ShapeRange]) -> None:
    """Make sure that the shapes `given` fit the inputs `specs`.

    Raises:
        UsageError: One names no input, or contradicts its shape.
    """
    _check_names(specs, given)
    for spec in specs:
        if spec.name in given:
            _check_range(spec, given[spec.name])


def shapes_of(specs: Sequence[TensorSpec], profile: ShapeProfile | None) -> dict[str, ShapeRange]:
    """Return the range of every input, static ones included, for which `profile` builds."""
    ranges = dict(profile.inputs) if profile else {}
    for spec in specs:
        if spec.name not in ranges:
            shape = tuple(dim for dim in spec.shape if isinstance(dim, int))
            ranges[spec.name] = ShapeRange(shape, shape, shape)
    return ranges


def format_shape(shape: Iterable[int | str | None]) -> str:
    """Return a shape as users write it, `1x3x640x640`; an unknown dimension is a question mark."""
    return shape_text(shape, "x")


def _range(text: str) -> ShapeRange:
    shapes = [tuple(int(dim) for dim in part.split("x")) for part in text.split("/")]
    return ShapeRange(shapes[0], shapes[len(shapes) // 2], shapes[-1])


def is_static(spec: TensorSpec) -> bool:
    """Return whether an input has one shape only."""
    return all(isinstance(dim, int) for dim in spec.shape)


def _check_names(specs: Sequence[TensorSpec], given: Mapping[str, ShapeRange]) -> None:
    names = [spec.name for spec in specs]
    for name in given:
        if name not in names:
            raise UsageError(f"the model has no input {name!r}; its inputs are {', '.join(names)}")


def _check_range(spec: TensorSpec, shapes: ShapeRange) -> None:
    for shape in (shapes.min, shapes.opt, shapes.max):
        if len(shape) != len(spec.shape):
            raise UsageError(
                f"shape {format_shape(shape)} of input {spec.name!r} has {len(shape)} dimensions; "
                f"the model's {format_shape(spec.shape)} has {len(spec.shape)}"
            )
    for axis, dims in enumerate(zip(spec.shape, shapes.min, shapes.opt, shapes.max, strict=True)):
        _check_dimension(spec.name, axis, *dims)


def _check_dimension(name: str, axis: int, fixed: int | str | None, *dims: int) -> None:
    low, usual, high = dims
    if isinstance(fixed, int) and {low, usual, high} != {fixed}:
        wrong = next(dim for dim in dims if dim != fixed)
        raise UsageError(
            f"dimension {axis} of input {name!r} is fixed to {fixed} in the model; "
            f"give {fixed} in place of {wrong}"
        )
    if not 1 <= low <= usual <= high <= _LARGEST:
        raise UsageError(
            f"dimension {axis} of input {name!r} is {low}/{usual}/{high}; "
            f"it must hold 1 <= min <= opt <= max <= {_LARGEST}"
        )


def _default_shape(spec: TensorSpec, image_size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return batch 1, and the size of the images where their axes are dynamic too."""
    shape = [
        1 if axis == 0 and not isinstance(dim, int) else dim
        for axis, dim in enumerate(with_image_size(spec.shape, image_size))
    ]
    known = tuple(dim for dim in shape if isinstance(dim, int))
    if len(known) != len(shape):
        raise UsageError(
            f"input {spec.name!r} is dynamic ({format_shape(spec.shape)}) and of unknown size; "
            f"give --shapes {spec.name}={_example(spec.shape)}"
        )
    return known


def _example(shape: Shape) -> str:
    example = (1, 3, 224, 224) if is_image(shape) else (1, *(64,) * (len(shape) - 1))
    pairs = zip(shape, example, strict=True)
    return format_shape(dim if isinstance(dim, int) else stand_in for dim, stand_in in pairs)


def _note(
    spec: TensorSpec, shapes: ShapeRange, is_shared: bool, image_size: tuple[int, int] | None
) -> str:
    only_batch = all(isinstance(dim, int) for dim in spec.shape[1:])
    why = "batch 1" if only_batch or image_size is None else "batch 1 and the size of the images"
    if is_shared:
        why = "as other inputs with its dimensions are"
    parts = (shapes.opt,) if shapes.min == shapes.max else (shapes.min, shapes.opt, shapes.max)
    built = "/".join(map(format_shape, parts))
    return (
        f"input {spec.name!r} is dynamic; built for {built}, {why}; "
        f"choose with --shapes {spec.name}=..."
    )
