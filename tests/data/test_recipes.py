from pathlib import Path

import msgspec
import numpy as np
import pytest

from qbench.data.recipes import Recipe, builtin_recipes, check_recipe, load_recipe
from qbench.errors import DataError, RecipeError
from qbench.model.spec import TensorSpec


def spec(*shape: int | str | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("image", shape, np.dtype(dtype))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "mine") -> Path:
    path = Path(f"{name}.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_builtins_are_the_promised_five_and_load() -> None:
    names = builtin_recipes()
    assert names == ("efficientnet-lite", "imagenet", "raw", "yolov8", "yolox")
    assert [load_recipe(name).name for name in names] == list(names)


def test_builtin_values() -> None:
    lite, yolov8, yolox = map(load_recipe, ("efficientnet-lite", "yolov8", "yolox"))
    assert (lite.resize, lite.crop_fraction, lite.interpolation) == ("crop", 224 / 256, "bicubic")
    assert (lite.mean, lite.std, lite.scale, lite.colour) == (127.0, 128.0, 1.0, "rgb")
    assert (yolov8.scale, yolov8.pad, yolov8.colour) == (1 / 255, "centre", "rgb")
    assert (yolox.scale, yolox.pad, yolox.colour, yolox.pad_value) == (1, "top-left", "bgr", 114)
    assert (yolov8.rounding, yolox.rounding) == ("nearest", "down")
    assert load_recipe("imagenet").mean == (0.485, 0.456, 0.406)
    assert load_recipe("raw") == Recipe(name="raw")


def test_name_path_and_local_folder() -> None:
    assert load_recipe(write('colour = "bgr"')) == Recipe(name="mine", colour="bgr")
    assert load_recipe("mine.toml").name == "mine"
    Path("calibration").mkdir()
    write("scale = 0.5", "calibration/imagenet")
    assert load_recipe("imagenet") == Recipe(name="imagenet", scale=0.5)


def test_unknown_name_lists_local_and_builtin_choices() -> None:
    Path("calibration").mkdir()
    write("", "calibration/ours")
    with pytest.raises(RecipeError, match=r"no recipe 'resnet'; choose .*imagenet, ours, raw"):
        load_recipe("resnet")


def test_missing_file() -> None:
    with pytest.raises(RecipeError, match=r"cannot read recipe gone\.toml: No such file"):
        load_recipe("gone.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "scael = 1",
            "mine.toml: Object contains unknown field `scael`; the keys are resize, size",
        ),
        ('resize = "squash"', r"`\$\.resize`; choose stretch, crop, letterbox$"),
        ("colour = 1", r"got `int` - at `\$\.colour`; choose rgb, bgr, gray"),
        ('mean = "x"', r"got `str` - at `\$\.mean`$"),
        ("size = [1, 2, 3]", r"at `\$\.size`$"),
        ('name = "x"', "name is taken from the file's name; remove the key"),
        ("resize =", "mine.toml is not TOML"),
        ("size = 0", "mine.toml: size = 0 is not positive"),
        ("dynamic_size = [32, -1]", r"dynamic_size = \(32, -1\) is not positive"),
        ('resize = "crop"\ncrop_fraction = 1.5', r"crop_fraction = 1\.5 is not in \(0, 1\]"),
        ('resize = "crop"\ncrop_fraction = nan', r"crop_fraction = nan is not in \(0, 1\]"),
        ("crop_fraction = 0.5", 'crop_fraction has an effect with resize = "crop" only'),
        ('pad = "top-left"', 'pad has an effect with resize = "letterbox" only'),
        ('resize = "letterbox"\npad_value = 256', "pad_value = 256 is no pixel"),
        ("std = 0", r"std = 0\.0 cannot be used; give numbers that are finite and not zero"),
        ("std = [1, 0, 1]", "give numbers that are finite and not zero"),
        ("mean = inf", "mean = inf cannot be used; give numbers that are finite$"),
        ("mean = [1, 2]", "mean has 2 values, but colour = 'rgb' has 3 channels"),
        (
            'colour = "gray"\nstd = [1, 1, 1]',
            "std has 3 values, but colour = 'gray' has 1 channels",
        ),
        ('dtype = "uint8"\nscale = 2', 'dtype = "uint8" holds plain pixels'),
    ],
)
def test_bad_recipes(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(text))
    assert "\n" not in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_not_utf8() -> None:
    Path("mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="is not TOML"):
        load_recipe("mine.toml")


def test_recipes_are_checked_outside_files_too() -> None:
    with pytest.raises(RecipeError, match="size = -1 is not positive"):
        msgspec.structs.replace(Recipe(), size=-1)


def test_json_round_trip() -> None:
    recipe = load_recipe("imagenet")
    assert msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe) == recipe


@pytest.mark.parametrize(
    ("recipe", "shape", "size"),
    [
        (Recipe(), (1, 3, 32, 48), (32, 48)),
        (Recipe(), ("N", None, 32, 48), (32, 48)),
        (Recipe(layout="nhwc"), (None, 32, 48, 3), (32, 48)),
        (Recipe(colour="gray"), (1, 1, 32, 48), (32, 48)),
        (Recipe(size=64), (1, 3, "H", "W"), (64, 64)),
        (Recipe(size=(64, 96)), (1, 3, 64, None), (64, 96)),
        (Recipe(dynamic_size=640), (1, 3, "H", "W"), (640, 640)),
        (Recipe(dynamic_size=640, size=320), (1, 3, "H", "W"), (320, 320)),
        (Recipe(dynamic_size=640), (1, 3, 320, 320), (320, 320)),
    ],
)
def test_size_of_input(
    recipe: Recipe, shape: tuple[int | str | None, ...], size: tuple[int, int]
) -> None:
    assert check_recipe(recipe, spec(*shape)) == size


@pytest.mark.parametrize(
    ("recipe", "tensor", "message"),
    [
        (Recipe(name="r"), spec(1, 10), r"recipe 'r' does not fit input 'image' float32\[1,10\]"),
        (Recipe(), spec(1, 10), r"no image of rank 4; give its arrays with --data FILE\.npz"),
        (Recipe(), spec(1, 32, 32, 3), 'its layout is nchw; set layout = "nhwc"'),
        (Recipe(layout="nhwc"), spec(1, 3, 32, 32), 'its layout is nhwc; set layout = "nchw"'),
        (Recipe(size=(8, 6)), spec(1, None, None, 3), 'its layout is nchw; set layout = "nhwc"'),
        (Recipe(), spec(1, 1, 8, 8), 'makes 3 channels, not 1; set colour = "gray"'),
        (Recipe(colour="gray"), spec(1, 3, 8, 8), 'makes 1 channels, not 3; set colour = "rgb"'),
        (Recipe(), spec(1, 4, 8, 8), r"3 channels, not 4; give its arrays with --data FILE\.npz"),
        (Recipe(), spec(1, 3, 8, 8, dtype="uint8"), 'it makes float32; set dtype = "uint8"'),
        (Recipe(), spec(1, 3, 8, 8, dtype="int64"), "it makes float32; give its arrays"),
        (Recipe(size=16), spec(1, 3, 8, 8), "makes 16 pixels; .* out, or give --size 8x8"),
        (Recipe(), spec(1, 3, "H", None), "give --recipe with size or --size 640"),
        (Recipe(), spec(1, 3, 64, "W"), "give --recipe with size or --size 64x640"),
        (Recipe(), spec(1, 3, 8, None), "whose size is dynamic"),
    ],
)
def test_recipes_that_do_not_fit(recipe: Recipe, tensor: TensorSpec, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_recipe(recipe, tensor)
    assert "'image'" in str(caught.value)
