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
from qbench.evaluation.segment import SegmentResult, evaluate, mean_iou

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


def test_classes_that_do_not_occur_do_not_count() -> None:
    assert mean_iou(np.array([[[5, 0, 0], [5, 5, 0], [5, 0, 0]]])) == pytest.approx(0.5)
    assert np.isnan(mean_iou(np.zeros((1, 3, 2), np.int64)))


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


@pytest.mark.parametrize("shape", [(5,), (1, 4, 4), (4, 4)])
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
