import codecs
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.data.box_labels import labels_beside, load_boxes
from qbench.errors import DataError

NAMES = ["a.jpg", "sub/b.jpg"]


def coco(folder: Path, **changes: Any) -> Path:
    document = {
        "images": [{"id": 7, "file_name": "./a.jpg"}, {"id": 3, "file_name": "sub\\b.jpg"}],
        "annotations": [
            {"image_id": 7, "category_id": 2, "bbox": [10, 20, 30, 40], "iscrowd": 1},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5.5, 6]},
        ],
        "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps({**document, **changes}), encoding="utf-8")
    return path


def yolo(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / "labels" / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "labels"


def test_coco(tmp_path: Path) -> None:
    labels = load_boxes(NAMES, coco(tmp_path))
    found = labels.truth["a.jpg"]
    assert found.boxes.tolist() == [[10, 20, 40, 60], [0, 0, 5.5, 6]]
    assert found.categories.tolist() == [2, 1]
    assert found.crowd.tolist() == [True, False]
    assert found.in_pixels((100, 200)) is found
    assert labels.truth["sub/b.jpg"].boxes.shape == (0, 4)
    assert labels.categories == (1, 2)
    assert labels.notes == ()


def test_coco_as_other_tools_write_it(tmp_path: Path) -> None:
    """With a byte-order mark, bools for crowds, and strings as the ids of images."""
    images = [{"id": "7", "file_name": "a.jpg"}, {"id": 3, "file_name": "sub/b.jpg"}]
    annotations = [
        {"image_id": "7", "category_id": 1, "bbox": [0, 0, 5, 6], "iscrowd": crowd}
        for crowd in (False, True, 0, 1)
    ]
    file = coco(tmp_path, images=[*images, images[0]], annotations=annotations)
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    assert load_boxes(NAMES, file).truth["a.jpg"].crowd.tolist() == [False, True, False, True]


def test_yolo_with_a_byte_order_mark(tmp_path: Path) -> None:
    labels = load_boxes(NAMES, yolo(tmp_path, a="\ufeff3 0.5 0.25 0.2 0.1\n"))
    assert labels.truth["a.jpg"].categories.tolist() == [3]


def test_yolo(tmp_path: Path) -> None:
    labels = load_boxes(NAMES, yolo(tmp_path, a="3 0.5 0.25 0.2 0.1\n\n0 1 1 0 0\n", sub__b=""))
    found = labels.truth["a.jpg"].in_pixels((100, 200))
    np.testing.assert_allclose(found.boxes, [[80, 20, 120, 30], [200, 100, 200, 100]])
    assert not found.relative
    assert found.categories.tolist() == [3, 0]
    assert not found.crowd.any()
    assert labels.truth["sub/b.jpg"].boxes.shape == (0, 4)
    assert labels.categories is None
    assert labels.notes == ()


def test_samples_that_the_coco_file_lacks_are_left_out(tmp_path: Path) -> None:
    file = coco(tmp_path)
    labels = load_boxes(["a.jpg", "c.jpg"], file)
    assert list(labels.truth) == ["a.jpg"]
    assert labels.notes == (f"1 of 2 samples are not in {file} and are left out: c.jpg",)


def test_boxes_of_no_image_are_noted(tmp_path: Path) -> None:
    boxes = [{"image_id": n, "category_id": 1, "bbox": [0, 0, 5, 0]} for n in (7, 8, 9)]
    file = coco(tmp_path, annotations=boxes)
    labels = load_boxes(NAMES, file)
    assert labels.truth["a.jpg"].boxes.tolist() == [[0, 0, 5, 0]]
    assert labels.notes == (
        f"2 of 3 boxes in {file} belong to no image that it lists and are left out",
    )


def test_samples_without_a_yolo_file_show_nothing(tmp_path: Path) -> None:
    folder = yolo(tmp_path, a="0 0.5 0.5 1 1")
    labels = load_boxes(NAMES, folder)
    assert not labels.truth["sub/b.jpg"].boxes.size
    assert labels.notes == (
        f"1 of 2 samples have no .txt file in {folder} and count as empty: sub/b.jpg",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 1, "file_name": "z.jpg"}]}, "has none of the 2 samples: it names z.jp"),
        (
            {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "./a.jpg"}]},
            r"lists a\.jpg as images 7 and 8; keep one",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]},
            r"lists image 7 as a\.jpg and b\.jpg; number them anew",
        ),
        ({"images": []}, "lists no images or no annotations"),
        ({"annotations": []}, "lists no images or no annotations"),
        ({"images": 5}, r"is no COCO file of boxes: Expected `array`, got `int` - at `\$\.images`"),
        ({"categories": [{"id": 1}]}, "category 2 of image 7 is not among its categories; add it"),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "bbox": [4, 3, -2, 1]}]},
            r"box \[4\.0, 3\.0, -2\.0, 1\.0\] of image 7 has a negative size; give x, y, width",
        ),
        (
            {"annotations": [{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "has no box for any of the samples; give labels of these images",
        ),
    ],
)
def test_a_coco_file_that_cannot_be_used(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        load_boxes(NAMES, coco(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is no COCO file of boxes: Object missing required field `images`"),
        ("", "is no COCO file of boxes: Input data was truncated"),
    ],
)
def test_an_empty_coco_file(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_boxes(NAMES, tmp_path / "l.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.1", r"a\.txt, line 1 is '0 0.5 0.5 0.1'; write a class index and the cent"),
        ("cat 0.5 0.5 1 1", "line 1 is 'cat 0.5 0.5 1 1'; write a class index"),
        ("\n-1 0.5 0.5 1 1", "line 2 is '-1 0.5 0.5 1 1'; write a class index"),
        ("0.5 0.5 0.5 1 1", "line 1 is '0.5 0.5 0.5 1 1'; write a class index"),
        ("nan 0.5 0.5 1 1", "line 1 is 'nan 0.5 0.5 1 1'; write a class index"),
        ("0 50 60 10 20", "line 1 has a box beyond the image; give shares of the image's width"),
        ("0 nan 0 0 0", "line 1 has a box beyond the image"),
        ("", "has no box for any of the samples; give labels of these images"),
    ],
)
def test_a_yolo_file_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_boxes(NAMES, yolo(tmp_path, a=text))


def test_a_yolo_file_that_is_no_text(tmp_path: Path) -> None:
    (yolo(tmp_path, a="") / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"cannot read labels .*a\.txt: .*; save it as UTF-8 text"):
        load_boxes(NAMES, tmp_path / "labels")


def test_a_yolo_folder_of_other_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 2 .*; give the folder that has a\.txt"):
        load_boxes(NAMES, yolo(tmp_path, z="0 0.5 0.5 1 1"))


def test_neither_coco_nor_yolo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"l\.csv holds no boxes that qbench reads; give a COCO"):
        load_boxes(NAMES, tmp_path / "l.csv")
    with pytest.raises(DataError, match=r"cannot read labels .*gone\.json: No such file"):
        load_boxes(NAMES, tmp_path / "gone.json")


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images and labels side by side, below a folder that is called images, too."""
    root = tmp_path / "images" / "set"
    for folder, file in (("images/val", "a.jpg"), ("labels/val", "a.txt"), ("images/new", "b.jpg")):
        (root / folder).mkdir(parents=True)
        (root / folder / file).touch()
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("images", ["images/val", "images/val/", "images", "{}/images/val"])
def test_labels_are_found_by_the_place_of_their_images(
    data_set: Path, images: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = Path(images.format(data_set))
    folder = data_set / "labels" / ("val" if given.name == "val" else "")
    assert labels_beside(given) == folder
    assert caplog.messages == [
        f"the boxes of {given} are read from {folder}; --labels names others"
    ]


def test_labels_are_found_from_within_the_folder(
    data_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_set / "images" / "val")
    assert labels_beside(Path()) == data_set / "labels" / "val"


def test_no_labels_are_found_where_there_are_none(
    data_set: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a folder, nor a text file in it, nor images that it could be of."""
    (data_set / "labels" / "empty").mkdir()
    (data_set / "images" / "empty").mkdir()
    for images in ("images/new", "images/empty", "images/gone", "labels/val", "images/val/a.jpg"):
        assert labels_beside(Path(images)) is None
    assert caplog.messages == []
