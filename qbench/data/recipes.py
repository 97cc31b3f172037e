"""Preprocessing recipes: how an image becomes the array that a model was trained on."""

import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from qbench.errors import DataError, RecipeError
from qbench.model.spec import TensorSpec, shape_text

_Dim = TypeVar("_Dim")


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes an input array.

    Geometry comes first, then colour, then ``(pixel * scale - mean) / std`` per channel in the
    order of `colour`.

    Attributes:
        name: Name of the file without its ending.
        resize: `stretch` ignores the aspect ratio; `crop` takes the centre; `letterbox` pads.
        size: Height and width, or one int for both; None means the model's. It must agree with the
            dimensions that the model fixes.
        dynamic_size: Used where the model leaves a dimension open and `size` is None.
        crop_fraction: Share of the short side (of the largest centred rectangle, if the target is
            not square) that `crop` keeps.
        interpolation: OpenCV's filter of that name, without antialiasing except for `area`;
            `nearest` is its INTER_NEAREST_EXACT, whose pixels have their centres where the others'
            have them.
        colour: Order and number of channels.
        scale: Factor of the pixels 0..255; one value, or one per channel.
        mean: Subtracted after scaling; one value, or one per channel.
        std: Divisor after that; one value, or one per channel.
        layout: Order of the result's axes.
        pad: Where a letterboxed image lies.
        pad_value: Pixel value of the border of a letterboxed image.
        rounding: How the sides of a letterboxed image become whole pixels; `down` drops a fraction.
        dtype: Element type of the result. `uint8` keeps the pixels as they are.
    """

    name: str = "unnamed"
    resize: Literal["stretch", "crop", "letterbox"] = "stretch"
    size: int | tuple[int, int] | None = None
    dynamic_size: int | tuple[int, int] | None = None
    crop_fraction: float = 1.0
    interpolation: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear"
    colour: Literal["rgb", "bgr", "gray"] = "rgb"
    scale: float | tuple[float, ...] = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    layout: Literal["nchw", "nhwc"] = "nchw"
    pad: Literal["centre", "top-left"] = "centre"
    pad_value: int = 114
    rounding: Literal["nearest", "down"] = "nearest"
    dtype: Literal["float32", "float16", "uint8"] = "float32"

    def __post_init__(self) -> None:
        """Check what the types cannot say.

        Raises:
            RecipeError: A value is out of its range, or has no effect next to another.
        """
        for key, mode in _ONLY_WITH.items():
            if self.resize != mode and getattr(self, key) != _DEFAULTS[key]:
                raise RecipeError(f'{key} has an effect with resize = "{mode}" only; remove it')
        for key in ("size", "dynamic_size"):
            if min(_pair(getattr(self, key)) or (1,)) < 1:
                raise RecipeError(f"{key} = {getattr(self, key)} is not positive; give pixels")
        if not 0 < self.crop_fraction <= 1:
            raise RecipeError(f"crop_fraction = {self.crop_fraction} is not in (0, 1]; try 0.875")
        if not 0 <= self.pad_value <= 255:
            raise RecipeError(f"pad_value = {self.pad_value} is no pixel; give 0 to 255")
        for key in ("scale", "mean", "std"):
            self._check_channels(key, getattr(self, key))
        if self.dtype == "uint8" and (self.scale, self.mean, self.std) != (1, 0, 1):
            raise RecipeError('dtype = "uint8" holds plain pixels; remove scale, mean and std')

    def _check_channels(self, key: str, value: float | tuple[float, ...]) -> None:
        values = value if isinstance(value, tuple) else (value,) * self.channels
        if len(values) != self.channels:
            raise RecipeError(
                f"{key} has {len(values)} values, but colour = {self.colour!r} has "
                f"{self.channels} channels; give one value or {self.channels}"
            )
        if not all(map(math.isfinite, values)) or (key != "mean" and 0 in values):
            zero = "" if key == "mean" else " and not zero"
            raise RecipeError(f"{key} = {value} cannot be used; give numbers that are finite{zero}")

    @property
    def channels(self) -> int:
        """Number of channels of the result."""
        return 1 if self.colour == "gray" else 3

    def height_and_width(self, shape: Sequence[_Dim]) -> tuple[_Dim, _Dim]:
        """Return the two among the dimensions of an input of rank 4."""
        height, width = shape[2:4] if self.layout == "nchw" else shape[1:3]
        return height, width


_IN_FILE = " in a recipe of your own (--recipe FILE.toml)"
_AS_ARRAYS = "give its arrays with --data FILE.npz"
_ONLY_WITH = {
    "crop_fraction": "crop",
    "pad": "letterbox",
    "pad_value": "letterbox",
    "rounding": "letterbox",
}
_DEFAULTS: dict[str, Any] = {field.name: field.default for field in msgspec.structs.fields(Recipe)}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe: a path ending in .toml, `./calibration/NAME.toml`, or a built-in's name.

    Raises:
        RecipeError: There is no such recipe, or the file holds an unknown key or a bad value.
    """
    path = _find(str(name_or_path))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read recipe {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise RecipeError(f"recipe {path} is not TOML: {error}; correct it") from error
    if "name" in table:
        raise RecipeError(f"recipe {path}: name is taken from the file's name; remove the key")
    try:
        return msgspec.convert({**table, "name": path.stem}, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"recipe {path}: {_advice(str(error))}") from error
    except RecipeError as error:
        raise RecipeError(f"recipe {path}: {error}") from error


def builtin_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with qbench, sorted."""
    return tuple(sorted(path.stem for path in _builtin_folder().glob("*.toml")))


def _find(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    local = Path("calibration")
    for folder in (local, _builtin_folder()):
        path = folder / f"{name}.toml"
        if path.is_file():
            return path
    choices = {*builtin_recipes(), *(path.stem for path in local.glob("*.toml"))}
    raise RecipeError(
        f"no recipe {name!r}; choose {', '.join(sorted(choices))} or name a .toml file"
    )


def _builtin_folder() -> Path:
    """Return the folder of built-ins: inside an installed wheel, else of the source tree."""
    package = Path(__file__).parent.parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "calibration"


def _advice(message: str) -> str:
    """Return a message of msgspec with the choices that it leaves out."""
    key = re.search(r"`\$\.(\w+)", message)
    if key is None:
        return f"{message}; the keys are {', '.join(k for k in _DEFAULTS if k != 'name')}"
    hint = get_type_hints(Recipe)[key[1]]
    choices = f"; choose {', '.join(get_args(hint))}" if get_origin(hint) is Literal else ""
    return f"{message}{choices}"


def check_recipe(recipe: Recipe, spec: TensorSpec) -> tuple[int, int]:
    """Return the height and width that images get for the input `spec`.

    Raises:
        DataError: Recipe and input do not fit in rank, channels, layout, element type or size.
    """
    who = f"recipe {recipe.name!r} does not fit input {_text(spec)}"
    if len(spec.shape) != 4:
        raise DataError(f"{who}, which is no image of rank 4; {_AS_ARRAYS}")
    _check_channels(recipe, spec, who)
    if spec.dtype != np.dtype(recipe.dtype):
        known = spec.dtype.name in get_args(get_type_hints(Recipe)["dtype"])
        fix = f'set dtype = "{spec.dtype.name}"{_IN_FILE}' if known else _AS_ARRAYS
        raise DataError(f"{who}: it makes {recipe.dtype}; {fix}")
    return _checked_size(recipe, spec, who)


def _checked_size(recipe: Recipe, spec: TensorSpec, who: str) -> tuple[int, int]:
    wanted = _pair(recipe.size)
    fallback = wanted or _pair(recipe.dynamic_size) or (None, None)
    height, width = (
        dim if isinstance(dim, int) else other
        for dim, other in zip(recipe.height_and_width(spec.shape), fallback, strict=True)
    )
    if height is None or width is None:
        is_open = height is None and width is None
        size = "640" if is_open else f"{height or 640}x{width or 640}"
        raise DataError(
            f"{who}, whose size is dynamic, and sets none; give --recipe with size or --size {size}"
        )
    if wanted not in (None, (height, width)):
        raise DataError(
            f"{who}: it makes {recipe.size} pixels; leave --size and the recipe's size out, or "
            f"give --size {height}x{width}"
        )
    return height, width


def _check_channels(recipe: Recipe, spec: TensorSpec, who: str) -> None:
    here, there = (1, 3) if recipe.layout == "nchw" else (3, 1)
    channels = spec.shape[here]
    if channels == recipe.channels:
        return
    if spec.shape[there] == recipe.channels:
        other = "nhwc" if recipe.layout == "nchw" else "nchw"
        raise DataError(f'{who}: its layout is {recipe.layout}; set layout = "{other}"{_IN_FILE}')
    if not isinstance(channels, int):
        return
    fix = {1: f'set colour = "gray"{_IN_FILE}', 3: f'set colour = "rgb"{_IN_FILE}'}
    raise DataError(
        f"{who}: it makes {recipe.channels} channels, not {channels}; "
        + fix.get(channels, _AS_ARRAYS)
    )


def _text(spec: TensorSpec) -> str:
    return f"{spec.name!r} {spec.dtype.name}[{shape_text(spec.shape)}]"


def _pair(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size
