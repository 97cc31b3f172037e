import itertools
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.demo import scenes
from qbench.errors import StorageError

MODEL = Path(scenes.__file__).with_name("classifier.onnx")
FRESH = scenes.EVALUATION_SEEDS[-20:]


@settings(max_examples=30, deadline=None)
@given(label=st.integers(0, len(scenes.CLASSES) - 1), seed=st.sampled_from(FRESH))
def test_the_same_label_and_seed_give_the_same_pixels(label: int, seed: int) -> None:
    image = scenes.draw(label, seed)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert all(scenes.MIN_SIDE <= side <= scenes.MAX_SIDE for side in image.shape[:2])
    np.testing.assert_array_equal(image, scenes.draw(label, seed))


def test_other_labels_and_other_seeds_give_other_images() -> None:
    images = [scenes.draw(*key) for key in itertools.product(range(len(scenes.CLASSES)), FRESH)]
    assert len({image.tobytes() for image in images}) == len(images)
    assert len({image.shape for image in images}) > len(images) // 2


def test_seed_ranges_do_not_meet() -> None:
    ranges = (scenes.TRAINING_SEEDS, scenes.CALIBRATION_SEEDS, scenes.EVALUATION_SEEDS)
    for first, second in itertools.combinations(ranges, 2):
        assert first.stop <= second.start or second.stop <= first.start


def test_class_numbers_are_those_of_the_sorted_folders() -> None:
    assert list(scenes.CLASSES) == sorted(set(scenes.CLASSES))


def test_images_are_written_where_promised(tmp_path: Path) -> None:
    seed = scenes.CALIBRATION_SEEDS.start
    paths = scenes.write_images(tmp_path / "imgs", 2, seed)
    names = ["0000.png", "0001.png"]
    assert paths == [tmp_path / "imgs" / c / name for c in scenes.CLASSES for name in names]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == paths
    for path, (label, index) in zip(
        paths, itertools.product(range(len(scenes.CLASSES)), range(2)), strict=True
    ):
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(rgb, scenes.draw(label, seed + index))


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "imgs").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"cannot write .*imgs"):
        scenes.write_images(tmp_path / "imgs", 1, 0)


def test_the_model_knows_every_class_on_images_it_never_saw() -> None:
    pairs = list(itertools.product(range(len(scenes.CLASSES)), FRESH))
    pixels = np.stack([cv2.resize(scenes.draw(*pair), (64, 64)) for pair in pairs])
    batch = ((pixels.astype(np.float32) / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2)
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": batch})
    right = logits.argmax(1) == [label for label, _ in pairs]
    assert right.mean() >= 0.95
    assert right.reshape(len(scenes.CLASSES), -1).mean(1).min() >= 0.8


def test_the_model_file_keeps_its_contract() -> None:
    model = onnx.load(MODEL)
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (image, logits)
    ]
    assert (image.name, logits.name) == ("image", "logits")
    assert shapes == [["N", 3, 64, 64], ["N", len(scenes.CLASSES)]]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version <= 10
    assert MODEL.stat().st_size <= 2_000_000


def test_the_model_has_what_quantization_must_cope_with() -> None:
    graph = onnx.load(MODEL).graph
    ops = Counter(node.op_type for node in graph.node)
    assert {"BatchNormalization", "Clip", "Sigmoid", "Mul", "Add", "GlobalAveragePool"} <= set(ops)
    groups = {
        attribute.i
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "group"
    }
    assert max(groups) > 1
