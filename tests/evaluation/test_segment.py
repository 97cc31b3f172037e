import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from detections import SIZE, Oracle, Views
from numpy.typing import NDArray

from qbench.data.masks import MaskLabels, find_masks
from qbench.data.recipes import Recipe
from qbench.data.samples import Sample
from qbench.errors import DataError, ModelError
from qbench.evaluation.segment import SegmentResult, _class_axis, evaluate, mean_iou

COUNT, CLASSES = 4, 3
RECIPE = Recipe(resize="letterbox")
Map = NDArray[np.int64]


def truth(index: int) -> Map:
    """Return classes 0, 1 and 2 side by side, at other columns in each image."""
    classes = np.repeat([0, 1, 2], [20 + 8 * index, 30, 46 - 8 * index])
    return np.tile(classes, (SIZE[0], 1))


def logits(classes: Map) -> list[NDArray[np.float32]]:
    return [(np.arange(CLASSES)[:, None, None] == classes).astype(np.float32)]


@pytest.fixture
def masks(tmp_path: Path) -> MaskLabels:
    """Masks of images twice as large as the input; a row of pixels counts as no class."""
    names = [Views(COUNT).name(index) for index in range(COUNT)]
    for index, name in enumerate(names):
        mask = truth(index).repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
        mask[:2] = 255
        cv2.imwrite(str(tmp_path / name), mask)
    return find_masks(names, tmp_path)


def judged(answers: list[Map], masks: MaskLabels, **changes: Any) -> SegmentResult:
    oracle = changes.pop("oracle", None) or Oracle([logits(answer) for answer in answers])
    source = changes.pop("source", None) or Views(COUNT)
    return evaluate(oracle, source, masks, RECIPE, threads=2)


def test_a_perfect_answer(masks: MaskLabels) -> None:
    found = judged([truth(index) for index in range(COUNT)], masks)
    assert found.miou == 1
    assert found.names == tuple(Views(COUNT).name(index) for index in range(COUNT))
    assert found.counts.shape == (COUNT, 3, CLASSES)
    assert found.counts[:, 1].sum() == COUNT * (SIZE[0] - 1) * SIZE[1]


def test_masks_follow_the_size_of_an_input_with_channels_last(masks: MaskLabels) -> None:
    class ChannelsLast(Views):
        def load(self, index: int) -> Sample:
            sample = super().load(index)
            feeds = {name: np.moveaxis(feed, 1, -1) for name, feed in sample.feeds.items()}
            return replace(sample, feeds=feeds)

    recipe = msgspec.structs.replace(RECIPE, layout="nhwc")
    oracle = Oracle([logits(truth(index)) for index in range(COUNT)])
    assert evaluate(oracle, ChannelsLast(COUNT), masks, recipe, threads=2).miou == 1


def test_iou_by_hand(masks: MaskLabels) -> None:
    found = judged([np.zeros(SIZE, np.int64)] * COUNT, masks)
    assert found.miou == pytest.approx(np.mean([20, 28, 36, 44]) / SIZE[1] / CLASSES)


@pytest.mark.parametrize("foreground", [1, 255])
def test_masks_of_0_and_255(
    foreground: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Many save what is there as white, which counts as no class: the rest alone tells nothing."""
    names = [Views(COUNT).name(index) for index in range(COUNT)]
    for name in names:
        mask = np.zeros((2 * SIZE[0], 2 * SIZE[1]), np.uint8)
        mask[20:50] = foreground
        cv2.imwrite(str(tmp_path / name), mask)
    judged([truth(0)] * COUNT, find_masks(names, tmp_path))
    assert ("the masks show no class but 0, and pixels of 255" in caplog.text) == (foreground > 1)


def test_classes_that_do_not_occur_do_not_count() -> None:
    assert mean_iou(np.array([[[5, 0, 0], [5, 5, 0], [5, 0, 0]]])) == pytest.approx(0.5)
    assert np.isnan(mean_iou(np.zeros((1, 3, 2), np.int64)))


@pytest.mark.parametrize("step", [1, 4])
def test_classes_may_be_the_last_axis(step: int, masks: MaskLabels) -> None:
    first = [logits(truth(index))[0][:, ::step, ::step] for index in range(COUNT)]
    last = Oracle([[np.moveaxis(each, 0, -1)] for each in first])
    found = judged([], masks, oracle=last)
    assert found.miou == judged([], masks, oracle=Oracle([[each] for each in first])).miou > 0.9
    assert found.counts.shape == (COUNT, 3, CLASSES)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("axis", [None, 0, 2])
def test_a_model_that_ends_in_argmax(
    axis: int | None, dtype: type[np.integer], masks: MaskLabels
) -> None:
    maps = [truth(min(index, 2)).astype(dtype) for index in range(COUNT)]
    shaped = [each if axis is None else np.expand_dims(each, axis) for each in maps]
    found = judged([], masks, oracle=Oracle([[each] for each in shaped]))
    assert found.miou == judged(maps, masks).miou < 1


def test_small_class_maps_are_enlarged_at_the_centres(masks: MaskLabels) -> None:
    small = [truth(index)[::2, ::2] for index in range(COUNT)]
    assert judged([], masks, oracle=Oracle([[each] for each in small])).miou == 1


@pytest.mark.parametrize("value", [-1, 255])
def test_integers_that_are_no_classes(value: int, masks: MaskLabels) -> None:
    message = r"output 'y0' has values from .* to .*, but classes are 0 to 254; give a model"
    with pytest.raises(ModelError, match=message):
        judged([], masks, oracle=Oracle([[np.where(truth(0), value, 0)]] * COUNT))


@pytest.mark.parametrize(
    "shape", [(4, 6, 9), (9, 15, 21)], ids=["both as the input", "both but for fractions"]
)
def test_classes_that_may_be_either_axis(shape: tuple[int, ...], masks: MaskLabels) -> None:
    cube = np.zeros(shape, np.float32)
    with pytest.raises(ModelError, match="whose classes may be the second axis or the last; give"):
        judged([], masks, oracle=Oracle([[cube]] * COUNT))


def test_sides_that_were_rounded_are_still_those_of_the_input() -> None:
    """Strides that do not divide a side leave its last pixel in or out, on either layout."""
    for classes, size, stride in itertools.product((2, 40, 150), ((321, 481), (97, 64)), (4, 8)):
        for sides in (np.floor_divide(size, stride), -np.floor_divide(np.negative(size), stride)):
            height, width = sides.tolist()
            for axis, shape in ((0, (classes, height, width)), (2, (height, width, classes))):
                assert _class_axis(np.zeros(shape), "y", size) == axis


def test_small_maps_are_enlarged(masks: MaskLabels) -> None:
    quarter = [[plane[::4, ::4] for plane in logits(truth(index))[0]] for index in range(COUNT)]
    oracle = Oracle([[np.stack(planes)] for planes in quarter])
    assert 0.9 < judged([], masks, oracle=oracle).miou < 1


def test_resampling_follows_its_seed(masks: MaskLabels) -> None:
    found = judged([truth(0)] * COUNT, masks)
    assert found.resampled(9, seed=0).tolist() == found.resampled(9, seed=0).tolist()
    assert found.resampled(9, seed=0).std() > 0


def test_a_class_that_the_model_lacks(masks: MaskLabels) -> None:
    two = [logits(truth(index))[0][:2] for index in range(COUNT)]
    with pytest.raises(DataError, match=r"class 2 in the mask of 000\.png is beyond the model's 2"):
        judged([], masks, oracle=Oracle([[planes] for planes in two]))


@pytest.mark.parametrize("shape", [(5,), (1, 4, 6), (4, 6), (3, 40, 4), (4, 40, 3)])
def test_an_output_that_is_no_map(shape: tuple[int, ...], masks: MaskLabels) -> None:
    with pytest.raises(ModelError, match=r"output 'y0' has the shape .* no map of classes"):
        judged([], masks, oracle=Oracle([[np.zeros(shape, np.float32)]] * COUNT))


def test_nan(masks: MaskLabels) -> None:
    broken = [np.full((CLASSES, *SIZE), np.nan, np.float32)]
    with pytest.raises(ModelError, match=r"output 'y0' holds NaN for 000\.png"):
        judged([], masks, oracle=Oracle([broken] * COUNT))


def test_no_sample_has_a_mask() -> None:
    with pytest.raises(DataError, match="no sample of 4 views has a mask; check --labels"):
        judged([], MaskLabels({}))


def test_arrays_have_no_mask(masks: MaskLabels) -> None:
    with pytest.raises(DataError, match=r"000\.png is an array, which has no mask"):
        judged([truth(0)] * COUNT, masks, source=Views(COUNT, None))
