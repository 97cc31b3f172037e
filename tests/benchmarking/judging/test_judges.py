"""Every task from models and images to the accuracy of rows."""

from pathlib import Path

import cv2
import graphs
import msgspec
import numpy as np
import onnx
import pytest
from detections import ENCODERS, SIZE, Scene, scene

from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.judging.judged import Judged, Outcome
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.result import Accuracy, Figure, Metric, Row
from qbench.benchmarking.stats import Interval
from qbench.benchmarking.timing.settings import Settings
from qbench.data.choice import DataChoice
from qbench.data.recipes import Recipe
from qbench.errors import DataError, ModelError, UsageError
from qbench.quantization.quantize import quantize

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


def test_detection_with_labels_beside_the_images(images: Path, tmp_path: Path) -> None:
    for kind, files in (("images", "*.png"), ("labels", "*.txt")):
        (tmp_path / kind).mkdir()
        for file in images.glob(files):
            file.rename(tmp_path / kind / file.name)
    data = LabelledData(DataChoice(tmp_path / "images", LETTERBOX), task="detect")
    (found,) = accuracies([detector(FOUND, tmp_path / "m.onnx")], data)
    assert (found.metric, found.n) == ("map", 6)


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


def classifier(weights: list[list[float]], path: Path) -> Path:
    """Save a model whose logits are sums of the mean red, green and blue by `weights`."""
    b = graphs.Builder((1, 3, *SIZE))
    mean = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", b.x))
    onnx.save(b.model(b.node("MatMul", "y", mean, b.constant("w", np.array(weights, "f4")))), path)
    return path


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Nine images, three of them mostly red, three green, three blue."""
    folder = tmp_path / "colours"
    folder.mkdir()
    for index in range(9):
        bgr = np.full((8, 8, 3), 5 * index, np.uint8)
        bgr[..., 2 - index % 3] = 250 - 5 * index
        cv2.imwrite(str(folder / f"{index}.png"), bgr)
    return folder


RGB = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]
NO_BLUE = [[1.0, 0, 0], [0, 1, 0], [0, 0, 0.01]]


def figures(accuracy: Accuracy) -> dict[str, Figure]:
    return {figure.metric: figure for figure in accuracy.others}


def logit_powers() -> tuple[float, float]:
    """Powers over `colours` of the logits of `RGB`, and of what `NO_BLUE` lacks in them."""
    logits = np.array([[250 - 5 * i if c == i % 3 else 5 * i for c in range(3)] for i in range(9)])
    return float((logits**2).sum()), float(((0.99 * logits[:, 2]) ** 2).sum())


def test_classification_without_labels(colours: Path, tmp_path: Path) -> None:
    models = [classifier(RGB, tmp_path / "a.onnx"), classifier(NO_BLUE, tmp_path / "b.onnx")]
    first, second = accuracies(models, LabelledData(DataChoice(colours, Recipe(resize="stretch"))))
    assert (first.metric, first.value, first.n) == ("top1_agreement", 1, 9)
    assert figures(first).keys() == {"cosine"}  # equal outputs have no finite SQNR
    assert second.value == pytest.approx(6 / 9)
    assert second.ci_low < 6 / 9 < second.ci_high
    assert second.difference is not None
    assert second.difference.value == pytest.approx(-3 / 9)
    others = figures(second)
    assert others.keys() == {"cosine", "sqnr_db"}
    assert 0.5 < others["cosine"].value < 1
    assert others["cosine"].difference is not None
    assert others["cosine"].difference.high < 0
    signal, noise = logit_powers()
    assert others["sqnr_db"].value == pytest.approx(10 * np.log10(signal / noise), rel=1e-4)
    assert others["sqnr_db"].ci_low < others["sqnr_db"].value < others["sqnr_db"].ci_high
    assert others["sqnr_db"].difference is None


def test_top_5_beside_top_1(colours: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    lines = [f"{index}.png,{(0, 1, 6)[index % 3]}" for index in range(9)]
    labels.write_text("\n".join(["file,label", *lines]), encoding="utf-8")
    wide = [[1, 0, 0.5, 0.4, 0.3, 0.2, 0.1], [0, 1, 0, 0, 0, 0, 0], [0.9, 1, 0.8, 0.7, 0.6, 0, 0]]
    model = classifier(wide, tmp_path / "m.onnx")
    data = LabelledData(DataChoice(colours, Recipe(resize="stretch")), labels)
    (found,) = accuracies([model], data)
    assert (found.metric, found.value) == ("top1", pytest.approx(6 / 9))
    top5 = figures(found)["top5"]
    assert top5.value == pytest.approx(6 / 9)  # class 6 is the last of seven


@pytest.mark.parametrize(("names", "warned"), [("rg", True), ("rgb", False)])
def test_folders_of_some_classes_alone(
    names: str, warned: bool, colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their sorted names are other indices than the model's: 0 % would be blamed on the model."""
    for file in sorted(colours.iterdir()):
        place = tmp_path / "tree" / "rgb"[int(file.stem) % 3]
        if place.name in names:
            place.mkdir(parents=True, exist_ok=True)
            file.rename(place / file.name)
    models = [classifier(RGB, tmp_path / f"{name}.onnx") for name in "ab"]
    data = LabelledData(
        DataChoice(tmp_path / "tree", Recipe(resize="stretch")), tmp_path / "tree", task="classify"
    )
    assert len(accuracies(models, data)) == 2
    told = caplog.text.count("the labels name 2 classes, but the model has 3")
    assert told == (2 if warned else 0)  # of each model


@pytest.mark.parametrize(("first", "told"), [(0, 0), (1, 1)])
def test_labels_that_count_otherwise_are_told_of(
    first: int, told: int, colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted from 1, as in lists with a background, all are wrong but by luck; once is enough."""
    labels = tmp_path / "labels.csv"
    lines = [f"{index}.png,{(index + first) % 3}" for index in range(9)]
    labels.write_text("\n".join(["file,label", *lines]), encoding="utf-8")
    model = classifier(RGB, tmp_path / "m.onnx")
    data = LabelledData(DataChoice(colours, Recipe(resize="stretch")), labels)
    rows = benchmark([model], precisions=["fp32", "fp16"], images=data, options=QUICK).rows
    assert [row.accuracy.value for row in rows if row.accuracy] == [1 - first] * 2
    message = "0 of 9 samples classified right is what guessing one of 3 classes may give"
    assert caplog.text.count(message) == told


def test_embeddings_retrieve(colours: Path, tmp_path: Path) -> None:
    models = [classifier(RGB, tmp_path / "a.onnx"), classifier(NO_BLUE, tmp_path / "b.onnx")]
    data = LabelledData(DataChoice(colours, Recipe(resize="stretch")), task="embed")
    first, second = (figures(accuracy)["retrieval"] for accuracy in accuracies(models, data))
    assert first.value == 1
    assert second.value < 1
    assert second.difference is not None
    assert second.difference.value == pytest.approx(second.value - 1)
    assert second.difference.low < second.difference.high


HUGE = [[1.0, 0, 0], [0, 1, 0], [0, 0, 3e38]]
"""Blue overflows."""


def test_figures_that_overflow_are_left_out(colours: Path, tmp_path: Path) -> None:
    """They are no JSON, and a run that holds one could not be read again."""
    models = [classifier(RGB, tmp_path / "a.onnx"), classifier(HUGE, tmp_path / "b.onnx")]
    data = LabelledData(DataChoice(colours, Recipe(resize="stretch")))
    rows = rows_of(models, data)
    second = rows[1].accuracy
    assert second is not None
    assert (second.metric, second.others) == ("top1_agreement", ())
    assert msgspec.json.decode(msgspec.json.encode(rows[1]), type=Row) == rows[1]


def test_embeddings_that_overflow_are_a_row_with_the_reason(colours: Path, tmp_path: Path) -> None:
    models = [classifier(RGB, tmp_path / "a.onnx"), classifier(HUGE, tmp_path / "b.onnx")]
    data = LabelledData(DataChoice(colours, Recipe(resize="stretch")), task="embed")
    _, second = rows_of(models, data)
    assert second.error is not None
    assert "outputs for 1.png hold NaN, or are too large to be compared" in second.error
    assert second.accuracy is None


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


def test_agreement_with_a_model_in_half_precision_is_not_that_with_fp32(
    images: Path, tmp_path: Path
) -> None:
    b = graphs.Builder((1, 3, *SIZE))
    onnx.save(b.model(b.conv("y", b.x, cin=3)), tmp_path / "m.onnx")
    quantize(tmp_path / "m.onnx", target="cpu", precision="fp16", output=tmp_path / "half.onnx")
    data = LabelledData(DataChoice(images, LETTERBOX), task="embed")
    with pytest.raises(
        ModelError, match=r"half\.onnx computes in FP16, .* give the FP32 model first"
    ):
        rows_of([tmp_path / "half.onnx"], data)


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


def judged(*names: str, metric: Metric = "map") -> Judged:
    return Judged(metric, names, Outcome(0.5, np.linspace(0.4, 0.6, 11)))


def test_other_samples_or_another_metric_give_no_difference() -> None:
    assert judged("a", "b").difference(judged("a", "b")) is not None
    for other in (judged("a", "c"), judged("a", "b", metric="cosine")):
        assert judged("a", "b").difference(other) is None
        assert judged("a", "b").compared(other) == judged("a", "b").accuracy


def test_further_figures_have_differences_of_their_own() -> None:
    right = np.arange(10) < 6
    top1 = Outcome(0.6, right)
    better = Judged("top1", tuple("abcdefghij"), top1, {"top5": Outcome(1.0, np.ones(10, bool))})
    worse = Judged("top1", tuple("abcdefghij"), top1, {"top5": Outcome(0.6, right)})
    found = worse.compared(better)
    assert found.difference == Interval(0, 0, 0)
    (top5,) = found.others
    assert (top5.metric, top5.value) == ("top5", 0.6)
    assert (top5.ci_low, top5.ci_high) == (found.ci_low, found.ci_high)
    assert top5.difference is not None
    assert top5.difference.value == pytest.approx(-0.4)
    assert top5.difference.low < -0.4 < top5.difference.high < 0
    alone = Judged("top1", worse.names, top1)
    assert worse.compared(alone).others[0].difference is None
