from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from qbench.data.image_folder import ImageFolder
from qbench.data.npz import NpzSource
from qbench.data.recipes import Recipe
from qbench.data.samples import subset
from qbench.data.sources import open_source
from qbench.errors import DataError
from qbench.model.spec import TensorSpec

IMAGE = TensorSpec("image", ("N", 3, 8, 8), np.dtype(np.float32))
VECTOR = TensorSpec("vector", ("N", 4), np.dtype(np.float32))


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((9, 7, 3), value, dtype=np.uint8))[1].tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value, name in enumerate(("b/2.PNG", "a/1.png", "c.png", ".cache/4.png")):
        write_image(tmp_path / "imgs" / name, value)
    (tmp_path / "imgs" / "notes.txt").touch()
    return tmp_path / "imgs"


def test_images_are_named_by_their_path_and_sorted(folder: Path) -> None:
    source = ImageFolder(folder, Recipe(name="r"), IMAGE)
    assert [source.name(index) for index in range(len(source))] == ["a/1.png", "b/2.PNG", "c.png"]
    assert source.describe() == f"3 images in {folder} (recipe r, 8x8)"


def test_images_of_types_that_are_not_read_are_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(open_source(folder, [IMAGE], Recipe())) == 3
    assert caplog.messages == []
    for name in ("a/5.gif", "6.AVIF", "7.jp2", "8.heic"):
        (folder / name).touch()
    assert len(open_source(folder, [IMAGE], Recipe())) == 3
    assert caplog.messages == [
        f"4 files in {folder} passed over for the type: 6.AVIF, 7.jp2, 8.heic and 1 more; "
        "convert to PNG what shall count"
    ]


def test_images_are_preprocessed(folder: Path) -> None:
    source = ImageFolder(folder, Recipe(scale=10), IMAGE)
    with ThreadPoolExecutor(4) as pool:
        samples = list(pool.map(source.load, range(len(source))))
    for index, (sample, value) in enumerate(zip(samples, (10, 0, 20), strict=True)):
        assert sample.name == source.name(index)
        assert np.array_equal(sample.feeds["image"], np.full((1, 3, 8, 8), value, np.float32))


def test_a_corrupt_image_fails_alone(folder: Path) -> None:
    (folder / "b/2.PNG").write_bytes((folder / "b/2.PNG").read_bytes()[:40])
    source = ImageFolder(folder, Recipe(), IMAGE)
    source.load(0)
    with pytest.raises(DataError, match=r"2\.PNG is truncated"):
        source.load(1)


def test_fingerprint_follows_names_and_contents_but_not_the_place(folder: Path) -> None:
    source = ImageFolder(folder, Recipe(), IMAGE)
    before = source.fingerprint()
    moved = folder.rename(folder.with_name("moved"))
    assert ImageFolder(moved, Recipe(), IMAGE).fingerprint() == before
    assert subset(ImageFolder(moved, Recipe(), IMAGE), 2).fingerprint() != before
    (moved / "c.png").rename(moved / "d.png")
    renamed = ImageFolder(moved, Recipe(), IMAGE).fingerprint()
    write_image(moved / "d.png", 99)
    assert len({before, renamed, ImageFolder(moved, Recipe(), IMAGE).fingerprint()}) == 3


def test_fingerprint_with_a_broken_link(folder: Path) -> None:
    before = ImageFolder(folder, Recipe(), IMAGE).fingerprint()
    (folder / "z.png").symlink_to(folder / "gone.png")
    source = ImageFolder(folder, Recipe(), IMAGE)
    assert source.fingerprint() != before
    with pytest.raises(DataError, match=r"cannot read .*z\.png: No such file"):
        source.load(3)


def test_image_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in .*; accepted are \.jpg \.jpeg \.png"):
        ImageFolder(tmp_path, Recipe(), IMAGE)


def test_recipe_is_checked_before_any_image_is_read(folder: Path) -> None:
    with pytest.raises(DataError, match='set layout = "nhwc"'):
        ImageFolder(folder, Recipe(), TensorSpec("x", (1, 8, 8, 3), np.dtype(np.float32)))


def test_open_chooses_by_content(folder: Path, tmp_path: Path) -> None:
    assert isinstance(open_source(folder, [IMAGE], Recipe()), ImageFolder)
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    np.savez(arrays / "x.npz", vector=np.zeros((2, 4), np.float32))
    assert isinstance(open_source(arrays, [VECTOR], None), NpzSource)
    assert isinstance(open_source(arrays / "x.npz", [VECTOR], Recipe()), NpzSource)


def test_open_nothing(tmp_path: Path) -> None:
    accepted = r"give a folder of images \(\.jpg .* \.tiff\) or of \.npz files, or one \.npz file"
    with pytest.raises(DataError, match=rf"no data at .*gone; {accepted}"):
        open_source(tmp_path / "gone", [IMAGE], Recipe())
    with pytest.raises(DataError, match=rf"no images in {tmp_path}; {accepted}"):
        open_source(tmp_path, [IMAGE], Recipe())
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=rf"notes\.txt is a file; {accepted}"):
        open_source(tmp_path / "notes.txt", [IMAGE], Recipe())


@pytest.mark.parametrize("name", ["data.yaml", "coco8.YML", "gone.yaml"])
def test_a_description_of_a_data_set_is_no_data(tmp_path: Path, name: str) -> None:
    if name != "gone.yaml":
        (tmp_path / name).write_text("val: images/val", encoding="utf-8")
    with pytest.raises(
        DataError, match=rf"{name} describes a data set .* folder of images that it"
    ):
        open_source(tmp_path / name, [IMAGE], Recipe())


def test_images_for_several_inputs(folder: Path) -> None:
    with pytest.raises(DataError, match=r"the model has 2 inputs \(image, vector\); .*\.npz files"):
        open_source(folder, [IMAGE, VECTOR], Recipe())


def test_images_without_a_recipe(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no recipe .* --recipe with one of efficientnet-lite, im"):
        open_source(folder, [IMAGE], None)
