import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detections import CLASSES, ENCODERS, IMAGE_SIZE, SIZE, Oracle, Outputs, Scene, Views, scene

from qbench.data.box_labels import BoxLabels, TrueBoxes, load_boxes
from qbench.data.recipes import Recipe
from qbench.data.samples import Sample
from qbench.errors import DataError, ModelError, UnfitError, UsageError
from qbench.evaluation import detect
from qbench.evaluation.coco import AveragePrecision, Detections
from qbench.evaluation.detect import DetectOptions, evaluate, suppress
from qbench.model.decoders import Candidates

COUNT = 12
OPTIONS = DetectOptions(Recipe(resize="letterbox"))


def random_scene(seed: int) -> Scene:
    """Return three boxes that do not overlap, in pixels of the input."""
    rng = np.random.default_rng(seed)
    rows = []
    for column in range(3):
        x, y = 32 * column + rng.uniform(0, 10), rng.uniform(0, 20)
        width, height = rng.uniform(10, 20), rng.uniform(10, 40)
        rows.append((x, y, x + width, y + height, rng.integers(CLASSES), rng.uniform(0.3, 0.9)))
    return scene(*rows)


SCENES = [random_scene(seed) for seed in range(COUNT)]


def labels_of(scenes: list[Scene]) -> BoxLabels:
    """Return labels in pixels of the image, twice as large as the input."""
    return BoxLabels(
        {
            f"{index:03}.png": TrueBoxes(2 * s.boxes, s.classes, np.zeros(len(s.boxes), bool))
            for index, s in enumerate(scenes)
        }
    )


def answers(shift: float = 0.0, decoder: str = "yolov8") -> list[Outputs]:
    return [ENCODERS[decoder](Scene(s.boxes + shift, s.classes, s.scores)) for s in SCENES]


def judged(outputs: list[Outputs], labels: BoxLabels | None = None, **options: Any) -> Any:
    chosen = DetectOptions(Recipe(resize="letterbox"), **options)
    return evaluate(Oracle(outputs), Views(COUNT), labels or labels_of(SCENES), chosen, threads=2)


@pytest.mark.parametrize("decoder", ENCODERS)
def test_perfect_boxes_have_a_map_of_1(decoder: str) -> None:
    found = judged(answers(decoder=decoder), decoder=decoder)
    assert found.map == pytest.approx(1)
    assert found.map50 == pytest.approx(1)
    assert found.n == COUNT
    assert found.names[:2] == ("000.png", "001.png")
    assert found.decoder == decoder


def test_shifted_boxes_have_a_lower_map() -> None:
    little, much = judged(answers(1.0)), judged(answers(3.0))
    assert 1 > little.map > much.map
    assert little.map50 == pytest.approx(1)
    assert little.decoder == "yolov8"


def test_nothing_found_is_a_map_of_0() -> None:
    found = judged([[np.zeros_like(output) for output in each] for each in answers()])
    assert found.map == 0
    assert found.found[0].boxes.shape == (0, 4)


def test_missed_and_invented_boxes_cost() -> None:
    nothing = TrueBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    invented = BoxLabels({**labels_of(SCENES).truth, "000.png": nothing})
    assert judged(answers(), invented).map < 1
    missed = answers()
    missed[0][0] = np.zeros_like(missed[0][0])
    assert judged(missed).map < 1


def test_crowds_are_neither_missed_nor_invented() -> None:
    truth = labels_of(SCENES).truth
    everywhere = TrueBoxes(
        np.tile([0.0, 0, 192, 128], (CLASSES, 1)), np.arange(CLASSES), np.ones(CLASSES, bool)
    )
    assert judged(answers(), BoxLabels({**truth, "000.png": everywhere})).map == pytest.approx(1)


def test_coco_and_yolo_labels_give_the_same_figure(tmp_path: Path) -> None:
    annotations, height, width = [], *IMAGE_SIZE
    for index, s in enumerate(SCENES):
        lines = []
        for (x, y, w, h), label in zip(2 * s.centred, s.classes.tolist(), strict=True):
            bbox = [x - w / 2, y - h / 2, w, h]
            annotations.append({"image_id": index, "category_id": label, "bbox": bbox})
            lines.append(f"{label} {x / width} {y / height} {w / width} {h / height}")
        (tmp_path / f"{index:03}.txt").write_text("\n".join(lines), encoding="utf-8")
    names = [f"{index:03}.png" for index in range(COUNT)]
    document = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": label} for label in range(CLASSES)],
    }
    (tmp_path / "l.json").write_text(json.dumps(document), encoding="utf-8")
    coco = judged(answers(2.0), load_boxes(names, tmp_path / "l.json"))
    yolo = judged(answers(2.0), load_boxes(names, tmp_path))
    assert 0 < coco.map < 1
    assert yolo.map == pytest.approx(coco.map)


def test_images_that_were_resized_after_they_were_labelled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names, (height, width) = [f"{index:03}.png" for index in range(COUNT)], IMAGE_SIZE
    images = [{"id": name, "file_name": name, "height": height, "width": width} for name in names]
    document: dict[str, Any] = {
        "images": images,
        "annotations": [{"image_id": names[0], "category_id": 0, "bbox": [0, 0, 5, 5]}],
        "categories": [{"id": label} for label in range(CLASSES)],
    }
    for changed in (False, True):
        images[3]["width"] = width + changed
        (tmp_path / "l.json").write_text(json.dumps(document), encoding="utf-8")
        judged(answers(), load_boxes(names, tmp_path / "l.json"))
        told = "1 of 12 images have another size than when they were labelled" in caplog.text
        assert told == changed


def test_the_figure_is_that_of_the_library_with_its_own_defaults() -> None:
    library = pytest.importorskip("faster_coco_eval")
    found = judged(answers(2.0))
    boxes = [(i, s) for i, each in enumerate(found.truth) for s in zip(
        each.boxes, each.categories, strict=True)]  # fmt: skip
    document = {
        "images": [{"id": i} for i in range(COUNT)],
        "categories": [{"id": label} for label in range(CLASSES)],
        "annotations": [
            {"id": 1 + k, "image_id": i, "category_id": int(c), "iscrowd": 0,
             "area": float(np.prod(b[2:] - b[:2])), "bbox": [*b[:2], *(b[2:] - b[:2])]}
            for k, (i, (b, c)) in enumerate(boxes)
        ],
    }  # fmt: skip
    results = [
        {
            "image_id": i,
            "category_id": int(c),
            "score": float(v),
            "bbox": [*b[:2], *(b[2:] - b[:2])],
        }
        for i, each in enumerate(found.found)
        for b, v, c in zip(each.boxes, each.scores, each.classes, strict=True)
    ]
    wanted = library.COCO(document)
    judge = library.COCOeval_faster(wanted, wanted.loadRes(results), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert (found.map, found.map50) == pytest.approx(tuple(judge.stats[:2]))


def test_drawing_every_image_once_gives_the_figure() -> None:
    found = judged(answers(2.0))
    precision = AveragePrecision(found.truth, found.found, found.most)
    assert precision.means(np.arange(COUNT)[::-1]) == pytest.approx(precision.means())
    assert precision.means(np.zeros(COUNT, np.int64))[0] != pytest.approx(found.map)


def test_resampling_pairs_models_and_follows_its_seed() -> None:
    good, bad = judged(answers(1.0)), judged(answers(2.0))
    first, again = good.resampled(20, seed=0), good.resampled(20, seed=0)
    assert first.tolist() == again.tolist()
    assert first.tolist() != good.resampled(20, seed=1).tolist()
    paired = first - bad.resampled(20, seed=0)
    unpaired = first - bad.resampled(20, seed=1)
    assert paired.std() < unpaired.std()
    assert first.std() > 0
    assert (first[:, 1] >= first[:, 0]).all()  # at IoU .50 alone more is found


def test_images_without_boxes_alone_have_no_figure() -> None:
    nothing = TrueBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    found = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    assert np.isnan(AveragePrecision([nothing], [found], 100).means()).all()


def proposals(*rows: tuple[float, ...], overlapping: bool = True) -> Candidates:
    s = scene(*rows)
    return Candidates(s.boxes, s.class_scores, overlapping=overlapping)


BOX, NEAR, FAR = (0, 0, 10, 10), (1, 0, 10, 10), (20, 0, 30, 10)


def test_suppression_drops_the_worse_of_two_that_overlap() -> None:
    rows = [(*NEAR, 0, 0.5), (*FAR, 0, 0.3), (*BOX, 0, 0.9)]
    found = suppress(proposals(*rows), OPTIONS)
    assert found.scores.tolist() == [0.9, 0.3]
    assert found.boxes.tolist() == [list(BOX), list(FAR)]
    assert len(suppress(proposals(*rows, overlapping=False), OPTIONS).scores) == 3


def test_suppression_keeps_classes_apart() -> None:
    found = suppress(proposals((*BOX, 0, 0.9), (*NEAR, 1, 0.5)), OPTIONS)
    assert found.classes.tolist() == [0, 1]


def test_a_box_counts_for_every_class_above_the_threshold() -> None:
    candidates = Candidates(np.array([BOX], np.float64), np.array([[0.5, 0.6, 0.01]]))
    assert suppress(candidates, OPTIONS).classes.tolist() == [1, 0]


def test_only_the_best_boxes_are_kept() -> None:
    boxes = np.array([(20 * i, 0, 20 * i + 10, 10) for i in range(150)], np.float64)
    scores = np.linspace(0.02, 0.9, 150)[:, None]
    assert suppress(Candidates(boxes, scores), OPTIONS).scores.tolist() == sorted(
        scores[50:, 0], reverse=True
    )


def test_only_the_best_proposals_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best are taken over all classes before suppression, whatever that leaves of them."""
    monkeypatch.setattr(detect, "_MOST_CANDIDATES", 3)
    boxes = np.array([BOX, BOX, [100, 100, 120, 120], [200, 200, 220, 220]], np.float64)
    scores = np.array([[0.9, 0.02], [0.8, 0.03], [0.05, 0.7], [0.6, 0.04]])
    found = suppress(Candidates(boxes, scores), OPTIONS)
    assert found.scores.tolist() == [0.9, 0.7]
    assert found.classes.tolist() == [0, 1]


def test_a_repeated_sample_counts_once() -> None:
    class Batches(Views):
        def load(self, index: int) -> Sample:
            one = super().load(index)
            return Sample(one.name, {"x": np.repeat(one.feeds["x"], 3, axis=0)}, one.image_size)

    class Repeating(Oracle):
        def run(self, feeds: Any) -> Any:
            return {name: np.repeat(y, 3, axis=0) for name, y in super().run(feeds).items()}

    result = evaluate(Repeating(answers()), Batches(COUNT), labels_of(SCENES), OPTIONS, threads=1)
    assert result.map == pytest.approx(1)


def with_categories(table: dict[int, int], categories: tuple[int, ...] | None) -> BoxLabels:
    truth = {
        name: TrueBoxes(there.boxes, np.vectorize(table.get)(there.categories), there.crowd)
        for name, there in labels_of(SCENES).truth.items()
    }
    return BoxLabels(truth, categories)


@pytest.mark.parametrize("decoder", ["yolov8", "end2end"])
def test_categories_with_gaps_are_counted_off(decoder: str) -> None:
    labels = with_categories({0: 1, 1: 3, 2: 70, 3: 90}, (1, 3, 70, 90))
    assert judged(answers(decoder=decoder), labels).map == pytest.approx(1)


def test_categories_below_the_number_of_classes_are_class_indices() -> None:
    assert judged(answers(), BoxLabels(labels_of(SCENES).truth, (0, 2, 3))).map == pytest.approx(1)


@pytest.mark.parametrize("categories", [None, (0, 1, 2, 3, 9)])
def test_categories_that_are_no_classes(categories: tuple[int, ...] | None) -> None:
    labels = with_categories({0: 0, 1: 1, 2: 2, 3: 9}, categories)
    with pytest.raises(DataError, match="category 9 of the labels is beyond the model's 4 classes"):
        judged(answers(), labels)


def test_no_sample_has_labels() -> None:
    with pytest.raises(DataError, match="no sample of 12 views has labels; check --labels"):
        judged(answers(), BoxLabels({"other.png": labels_of(SCENES).truth["000.png"]}))


def test_arrays_have_no_image() -> None:
    with pytest.raises(DataError, match=r"000\.png is an array, whose boxes cannot be compared"):
        evaluate(Oracle(answers()), Views(COUNT, None), labels_of(SCENES), OPTIONS, threads=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers(value: float) -> None:
    outputs = answers()
    outputs[0][0][0, 0] = value
    with pytest.raises(ModelError, match=r"output 'y0' holds NaN or infinity for 000\.png"):
        judged(outputs)


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_a_raw_yolox_with_nan_is_told_as_such(share: float) -> None:
    """Its coordinates tell the decoder, but NaN among them must not hide it."""
    outputs = answers(decoder="yolox")
    outputs[0][0][: max(1, int(share * len(outputs[0][0])))] = np.nan
    with pytest.raises(ModelError, match=r"output 'y0' holds NaN or infinity for 000\.png"):
        judged(outputs)


class Tables(Oracle):
    """A runner whose outputs have no batch axis: as many rows as there are boxes."""

    def run(self, feeds: Any) -> Any:
        return {name: output[0] for name, output in super().run(feeds).items()}


@pytest.mark.parametrize("decoder", ["auto", "end2end"])
def test_tables_of_as_many_rows_as_boxes(decoder: str) -> None:
    found = [SCENES[0], *(Scene(s.boxes[:1], s.classes[:1], s.scores[:1]) for s in SCENES[1:-1])]
    found.append(scene())
    tables = Tables([[ENCODERS["end2end"](s)[0][: len(s.boxes)]] for s in found])
    options = DetectOptions(Recipe(resize="letterbox"), decoder)
    result = evaluate(tables, Views(COUNT), labels_of(found), options, threads=1)
    assert (result.map, result.decoder) == (pytest.approx(1), "end2end")
    assert [len(each.boxes) for each in result.found] == [3, *[1] * (COUNT - 2), 0]


def test_one_row_may_be_a_classifiers() -> None:
    with pytest.raises(UsageError, match=r"outputs \[1, 6\] do not say how to read them; choose"):
        evaluate(
            Tables([[np.zeros((1, 6), np.float32)]] * COUNT),
            Views(COUNT),
            labels_of(SCENES),
            OPTIONS,
            threads=1,
        )


@pytest.mark.parametrize("decoder", ["ssd", "detr", "rtdetr"])
def test_no_rows_at_all_find_nothing(decoder: str) -> None:
    outputs = [[output[:0] for output in each] for each in answers(decoder=decoder)]
    assert judged(outputs, decoder=decoder).map == 0


def test_scores_that_are_no_probabilities() -> None:
    with pytest.raises(ModelError, match=r"decoder 'end2end' finds scores up to 54.*are no prob"):
        judged([[np.full((5, 6), 54.5, np.float32)]] * COUNT, decoder="end2end")


def test_an_unknown_decoder() -> None:
    with pytest.raises(UsageError, match="unknown decoder 'yolo99'; choose auto, yolov8, yolov5"):
        DetectOptions(decoder="yolo99")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UnfitError, match="faster-coco-eval, which is not installed; run `uv pip"):
        judged(answers())


def test_an_input_with_channels_last() -> None:
    class Interleaved(Views):
        def load(self, index: int) -> Sample:
            array = np.full((1, *SIZE, 3), index, np.float32)
            return Sample(self.name(index), {"x": array}, IMAGE_SIZE)

    options = DetectOptions(Recipe(resize="stretch", layout="nhwc"))
    found = evaluate(Oracle(answers()), Interleaved(COUNT), labels_of(SCENES), options, threads=1)
    assert found.map == pytest.approx(1)
