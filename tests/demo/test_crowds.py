from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.data.box_labels import load_boxes
from qbench.data.recipes import load_recipe
from qbench.data.sources import open_source
from qbench.demo import crowds, workflow
from qbench.demo.outlines import CLASSES
from qbench.demo.scenes import CALIBRATION_SEEDS, EVALUATION_SEEDS
from qbench.errors import StorageError
from qbench.evaluation.detect import DetectOptions, evaluate
from qbench.evaluation.similarity import box_ious
from qbench.runtimes.ort.runner import OrtRunner

MODEL = workflow.DETECTOR
FRESH = EVALUATION_SEEDS[-40:]


@settings(max_examples=20, deadline=None)
@given(seed=st.sampled_from(FRESH))
def test_the_same_seed_gives_the_same_scene(seed: int) -> None:
    one, other = crowds.draw_crowd(seed), crowds.draw_crowd(seed)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.labels, other.labels)


@settings(max_examples=20, deadline=None)
@given(seed=st.sampled_from(FRESH))
def test_shapes_lie_in_the_picture_and_hardly_cover_each_other(seed: int) -> None:
    crowd = crowds.draw_crowd(seed)
    height, width = crowd.pixels.shape[:2]
    assert all(crowds.MIN_SIDE <= side <= crowds.MAX_SIDE for side in (height, width))
    assert crowd.boxes.shape == (len(crowd.labels), 4)
    assert len(crowd.labels) <= crowds.MOST
    assert (crowd.boxes[:, :2] >= 0).all()
    assert (crowd.boxes[:, 2:] <= (width, height)).all()
    overlaps = box_ious(crowd.boxes, crowd.boxes) - np.eye(len(crowd.labels))
    assert overlaps.max(initial=0) < 0.1


def test_scenes_differ_and_show_every_class() -> None:
    scenes = [crowds.draw_crowd(seed) for seed in FRESH]
    assert len({scene.pixels.tobytes() for scene in scenes}) == len(scenes)
    assert {int(label) for scene in scenes for label in scene.labels} == set(range(len(CLASSES)))
    assert {len(scene.labels) for scene in scenes} >= {1, 2, 3, 4}


def test_a_box_lies_around_what_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank ground and no photography, so that only shapes are there."""
    monkeypatch.setattr(
        crowds, "ground", lambda _, height, width: np.zeros((height, width, 3), "f4")
    )
    monkeypatch.setattr(crowds, "photographed", lambda _, canvas: canvas)
    for seed in FRESH[:10]:
        scene = crowds.draw_crowd(seed)
        rows, columns = np.nonzero(scene.pixels.max(2) > 0.02)
        painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        around = [*scene.boxes[:, :2].min(0), *scene.boxes[:, 2:].max(0)]
        np.testing.assert_allclose(painted, around, atol=2)


def test_whole_numbers_of_an_outline_are_the_centres_of_pixels() -> None:
    outlines = [np.array([[20.0, 30], [59, 30], [59, 75], [20, 75]])]
    blank = np.zeros((100, 120, 3), np.float32)
    painted = crowds.painted(np.random.default_rng(0), blank, outlines, np.ones(3))[..., 0]
    x = painted.sum(0) @ (np.arange(120) + 0.5) / painted.sum()
    y = painted.sum(1) @ (np.arange(100) + 0.5) / painted.sum()
    x1, y1, x2, y2 = crowds._box(outlines)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == (pytest.approx(x, abs=0.1), pytest.approx(y, abs=0.1))


def test_images_and_labels_are_written_where_promised(tmp_path: Path) -> None:
    seed = CALIBRATION_SEEDS.start
    labels = crowds.write_crowds(tmp_path / "imgs", 3, seed)
    assert labels == tmp_path / "imgs.json"
    names = ["0000.png", "0001.png", "0002.png"]
    assert sorted(path.name for path in (tmp_path / "imgs").iterdir()) == names
    truth = load_boxes(names, labels)
    assert truth.categories == tuple(range(len(CLASSES)))
    for index, name in enumerate(names):
        crowd = crowds.draw_crowd(seed + index)
        rgb = cv2.cvtColor(cv2.imread(str(tmp_path / "imgs" / name)), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(rgb, crowd.pixels)
        np.testing.assert_allclose(truth.truth[name].boxes, crowd.boxes, atol=0.02)
        np.testing.assert_array_equal(truth.truth[name].categories, crowd.labels)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "imgs").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"cannot write .*imgs"):
        crowds.write_crowds(tmp_path / "imgs", 1, 0)


def test_the_detector_finds_shapes_in_scenes_it_never_saw(tmp_path: Path) -> None:
    labels = crowds.write_crowds(tmp_path / "val", len(FRESH), FRESH[0])
    (tmp_path / "demo.toml").write_text(workflow.SUBJECTS["detect"].recipe)
    recipe = load_recipe(str(tmp_path / "demo.toml"))
    runner = OrtRunner(MODEL)
    source = open_source(tmp_path / "val", runner.inputs, recipe)
    truth = load_boxes([source.name(index) for index in range(len(source))], labels)
    found = evaluate(runner, source, truth, DetectOptions(recipe), threads=1)
    assert found.decoder == "yolov8"
    assert found.map >= 0.75
    assert found.map50 >= 0.9


def test_the_detector_file_keeps_its_contract() -> None:
    model = onnx.load(MODEL)
    (images,), (output,) = model.graph.input, model.graph.output
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (images, output)
    ]
    assert (images.name, output.name) == ("images", "output0")
    assert shapes == [["N", 3, 160, 160], ["N", 4 + len(CLASSES), 20**2 + 10**2 + 5**2]]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version <= 10
    assert MODEL.stat().st_size <= 3_000_000


def test_the_detector_has_what_quantization_must_cope_with() -> None:
    ops = Counter(node.op_type for node in onnx.load(MODEL).graph.node)
    wanted = {"BatchNormalization", "Sigmoid", "Mul", "Add", "Concat", "Split", "Resize", "MaxPool"}
    assert wanted | {"Softmax", "Transpose", "Sub"} <= set(ops)
