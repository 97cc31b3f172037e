"""Every task from models and images to the accuracy of rows."""

from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx
import pytest
from detections import ENCODERS, SIZE, Scene, scene

from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.judges import Judged
from qbench.benchmarking.result import Accuracy, Row
from qbench.benchmarking.settings import Settings
from qbench.benchmarking.subject import LabelledData
from qbench.calibration.calibrate import DataChoice
from qbench.data.recipes import Recipe
from qbench.errors import DataError, ModelError, UsageError

QUICK = Options(
    Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)
)
FOUND = scene((8, 8, 24, 40, 2, 0.9), (50, 8, 70, 40, 1, 0.6))
LETTERBOX = Recipe(name="mine", resize="letterbox")


def detector(wanted: Scene, path: Path) -> Path:
    """Save a model that finds `wanted` in every image."""
    (answer,) = ENCODERS["yolov8"](wanted)
    b = graphs.Builder((1, 3, *SIZE))
    mean = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", b.x))
    weight = b.constant("w", np.zeros((3, answer.size), np.float32))
    row = b.node("Gemm", "fc", mean, weight, b.constant("b", answer.ravel()))
    shape = b.constant("shape", np.array([1, *answer.shape]))
    onnx.save(b.model(b.node("Reshape", "y", row, shape)), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six images of twice the input's size, of which one shows nothing, with YOLO labels."""
    folder = tmp_path / "imgs"
    folder.mkdir()
    lines = [
        f"{label} {x / SIZE[1]} {y / SIZE[0]} {w / SIZE[1]} {h / SIZE[0]}"
        for label, (x, y, w, h) in zip(FOUND.classes, FOUND.centred, strict=True)
    ]
    for index in range(6):
        pixels = np.full((2 * SIZE[0], 2 * SIZE[1], 3), index, np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
        (folder / f"{index}.txt").write_text("\n".join(lines) if index else "", encoding="utf-8")
    return folder


def rows_of(models: list[Path], data: LabelledData) -> tuple[Row, ...]:
    return benchmark(models, precisions=["fp32"], images=data, options=QUICK).rows


def accuracies(models: list[Path], data: LabelledData) -> list[Accuracy]:
    found = [row.accuracy for row in rows_of(models, data)]
    return [accuracy for accuracy in found if accuracy is not None]


def test_detection_with_labels(images: Path, tmp_path: Path) -> None:
    good = detector(FOUND, tmp_path / "good.onnx")
    bad = detector(Scene(FOUND.boxes + 2, FOUND.classes, FOUND.scores), tmp_path / "bad.onnx")
    data = LabelledData(DataChoice(images, LETTERBOX), images, task="detect")
    first, second = accuracies([good, bad], data)
    assert (first.metric, first.n) == ("map", 6)
    assert first.ci_low <= first.value <= first.ci_high
    assert first.ci_low < first.ci_high
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.value == pytest.approx(second.value - first.value)
    assert second.difference.low <= second.difference.value <= second.difference.high < 0


def test_detection_without_labels(images: Path, tmp_path: Path) -> None:
    good = detector(FOUND, tmp_path / "good.onnx")
    half = detector(
        Scene(FOUND.boxes, FOUND.classes, FOUND.scores * [1, 0.1]), tmp_path / "half.onnx"
    )
    data = LabelledData(DataChoice(images, LETTERBOX), task="detect")
    first, second = accuracies([good, half], data)
    assert (first.metric, first.value) == ("agreement", 1)
    assert second.value == pytest.approx(2 / 3)
    assert second.difference is not None
    assert second.difference.value == pytest.approx(-1 / 3)


def test_embeddings(images: Path, tmp_path: Path) -> None:
    mirrored = Scene(FOUND.boxes[:, ::-1], FOUND.classes, FOUND.scores)
    models = [detector(FOUND, tmp_path / "a.onnx"), detector(mirrored, tmp_path / "b.onnx")]
    first, second = accuracies(models, LabelledData(DataChoice(images, LETTERBOX), task="embed"))
    assert (first.metric, first.value) == ("cosine", pytest.approx(1))
    assert second.value < 0.9


def test_segmentation(images: Path, tmp_path: Path) -> None:
    b = graphs.Builder((1, 3, *SIZE))
    weight = b.constant("w", np.array([0] * 3 + [1] * 3, np.float32).reshape(2, 3, 1, 1))
    shift = b.constant("b", np.array([3 * 2.5, 0], np.float32))
    model = b.model(b.node("Conv", "y", b.x, weight, shift))
    onnx.save(model, tmp_path / "m.onnx")  # class 1 where the pixels exceed 2.5
    masks = tmp_path / "masks"
    masks.mkdir()
    for index in range(6):
        mask = np.full((2 * SIZE[0], 2 * SIZE[1]), index > 2, np.uint8)
        cv2.imwrite(str(masks / f"{index}.png"), mask)
    recipe = Recipe(resize="stretch")
    (found,) = accuracies(
        [tmp_path / "m.onnx"], LabelledData(DataChoice(images, recipe), masks, task="segment")
    )
    assert (found.metric, found.value, found.n) == ("miou", 1, 6)


def test_segmentation_needs_masks(images: Path, tmp_path: Path) -> None:
    data = LabelledData(DataChoice(images, LETTERBOX), task="segment")
    with pytest.raises(UsageError, match="task segment needs images with masks; give --data and"):
        rows_of([detector(FOUND, tmp_path / "m.onnx")], data)


def test_a_decoder_that_does_not_fit_is_a_row_with_the_reason(images: Path, tmp_path: Path) -> None:
    model = detector(FOUND, tmp_path / "m.onnx")
    data = LabelledData(DataChoice(images, LETTERBOX), images, task="detect", decoder="yolox")
    with pytest.raises(ModelError, match="decoder 'yolox' expects 126 cells for an input of 64x96"):
        rows_of([model], data)


def test_agreement_needs_a_float_model(images: Path, tmp_path: Path) -> None:
    b = graphs.Builder((1, 3, *SIZE))
    scale, zero = b.constant("s", np.float32(1)), b.constant("z", np.uint8(0))
    quantized = b.node("QuantizeLinear", "q", b.x, scale, zero)
    onnx.save(b.model(b.node("DequantizeLinear", "y", quantized, scale, zero)), tmp_path / "q.onnx")
    data = LabelledData(DataChoice(images, LETTERBOX), task="embed")
    with pytest.raises(ModelError, match="is quantized already; give the float model"):
        rows_of([tmp_path / "q.onnx"], data)


def test_labels_of_other_images(images: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    data = LabelledData(DataChoice(images, LETTERBOX), other, task="detect")
    with pytest.raises(DataError, match=r"has a \.txt file for none of the 6 samples"):
        rows_of([detector(FOUND, tmp_path / "m.onnx")], data)


def test_an_unknown_task(images: Path) -> None:
    data = LabelledData(DataChoice(images), task="guess")
    with pytest.raises(UsageError, match="unknown task 'guess'; choose from classify, detect, seg"):
        rows_of([Path("unread.onnx")], data)


def judged(*names: str, metric: str = "map") -> Judged:
    accuracy = Accuracy(metric, 0.5, len(names), 0.4, 0.6)  # type: ignore[arg-type]
    return Judged(accuracy, names, np.zeros(10))


def test_other_samples_or_another_metric_give_no_difference() -> None:
    assert judged("a", "b").difference(judged("a", "b")) is not None
    assert judged("a", "b").difference(judged("a", "c")) is None
    assert judged("a", "b").difference(judged("a", "b", metric="cosine")) is None
