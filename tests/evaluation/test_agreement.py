from typing import Any

import numpy as np
import pytest
from detections import ENCODERS, Oracle, Outputs, Scene, Views, scene

from qbench.errors import MismatchError, ModelError
from qbench.evaluation.agreement import (
    Measure,
    detections_in_common,
    evaluate,
    output_cosine,
    same_class,
    same_embedding,
    score_cosine,
)
from qbench.evaluation.detect import DetectOptions

FOUND = scene((8, 8, 24, 40, 2, 0.9), (50, 8, 70, 40, 1, 0.6), (50, 8, 70, 40, 0, 0.2))


def yolo(shift: float = 0.0, weight: float = 1.0, decoder: str = "yolov8") -> list[Outputs]:
    moved = Scene(FOUND.boxes + shift, FOUND.classes, FOUND.scores * weight)
    return [ENCODERS[decoder](moved)] * 3


MEASURES = [
    output_cosine,
    score_cosine(DetectOptions()),
    detections_in_common(DetectOptions()),
]


@pytest.mark.parametrize("measure", MEASURES)
def test_a_model_agrees_with_itself(measure: Measure) -> None:
    found = evaluate(Oracle(yolo()), Oracle(yolo()), Views(3, None), measure, threads=2)
    assert found.values == pytest.approx(np.ones(3))
    assert found.mean == pytest.approx(1)
    assert found.names == ("000.png", "001.png", "002.png")
    assert found.skipped == ()


def test_each_measure_sees_what_it_should() -> None:
    def mean(measure: Measure, other: list[Outputs]) -> float:
        return evaluate(Oracle(yolo()), Oracle(other), Views(3), measure, threads=1).mean

    outputs, scores, boxes = MEASURES
    assert mean(scores, yolo(shift=20)) == pytest.approx(1)
    assert mean(boxes, yolo(shift=20)) == 0
    assert mean(outputs, yolo(shift=20)) < 1
    assert mean(boxes, yolo(weight=0.4)) == pytest.approx(2 / 3)  # only .36 is still confident
    fewer = Scene(FOUND.boxes[:1], FOUND.classes[:1], FOUND.scores[:1])
    assert mean(scores, [ENCODERS["yolov8"](fewer)] * 3) < 0.9


def test_the_reference_chooses_the_decoder() -> None:
    ruined = yolo(decoder="yolox")
    for outputs in ruined:
        outputs[0][:, :2] = 1e4
    measure = detections_in_common(DetectOptions())
    reference = Oracle(yolo(decoder="yolox"))
    assert evaluate(reference, Oracle(ruined), Views(3), measure, threads=1).mean == 0


def test_the_first_sample_chooses_the_decoder() -> None:
    """Later tables may have one row, which alone could be the logits of a classifier."""

    class Tables(Oracle):
        def run(self, feeds: Any) -> Any:
            return {name: output[0] for name, output in super().run(feeds).items()}

    many = ENCODERS["end2end"](FOUND)[0]
    tables = Tables([[many[: len(FOUND.boxes)]], [many[:1]], [many[:0]]])
    measure = detections_in_common(DetectOptions())
    assert evaluate(tables, tables, Views(3), measure, threads=1).mean == 1


def test_outputs_of_other_shapes() -> None:
    with pytest.raises(MismatchError, match="cannot be compared; run both models on the same"):
        evaluate(Oracle(yolo()), Oracle(yolo(decoder="yolov5")), Views(3), output_cosine, threads=1)


def test_nan() -> None:
    broken = yolo()
    broken[0][0][0, 0] = np.nan
    with pytest.raises(
        ModelError, match=r"NaN or infinity for 000\.png; compare with fp32: where that gives"
    ):
        evaluate(Oracle(yolo()), Oracle(broken), Views(3), score_cosine(DetectOptions()), threads=1)


def rows(*answers: list[float]) -> list[Outputs]:
    return [[np.array(answer, np.float32)] for answer in answers]


def test_classifiers_that_rank_the_same_class_first() -> None:
    reference = Oracle(rows([3, 1, 0], [0, 2, 1], [0, 1, 4]))
    other = Oracle(rows([2, 1, 0], [0, 1, 2], [0, 1, 3]))
    found = same_class(reference, other, Views(3), threads=2)
    assert found.values.tolist() == [True, False, True]
    assert found.mean == pytest.approx(2 / 3)
    assert found.others["cosine"][0] == pytest.approx(7 / np.sqrt(50))
    assert found.others["powers"].tolist() == [[10, 1], [5, 2], [17, 1]]
    assert found.names == ("000.png", "001.png", "002.png")


def test_equal_logits_have_no_noise() -> None:
    reference = rows([3, 1, 0], [0, 2, 1])
    found = same_class(Oracle(reference), Oracle(reference), Views(2), threads=1)
    assert found.others.keys() == {"cosine"}


def test_classes_need_one_row_of_logits() -> None:
    with pytest.raises(ModelError, match="which is not one row of logits"):
        same_class(Oracle(yolo()), Oracle(yolo()), Views(3), threads=1)


def test_logits_that_are_nan() -> None:
    reference, broken = rows([3, 1, 0]), rows([3, np.nan, 0])
    with pytest.raises(ModelError, match=r"holds NaN for 000\.png"):
        same_class(Oracle(reference), Oracle(broken), Views(1), threads=1)


def test_models_of_other_classes() -> None:
    with pytest.raises(
        MismatchError, match=r"outputs of shapes \[1, 3\] and \[1, 2\] cannot be compared"
    ):
        same_class(Oracle(rows([3, 1, 0])), Oracle(rows([3, 1])), Views(1), threads=1)


def test_the_nearest_image_by_embeddings() -> None:
    reference = Oracle(rows([1, 0], [1, 0.1], [0, 1], [0.1, 1]))
    other = Oracle(rows([2, 0], [1, 0.9], [0.1, 2], [1, 1.1]))
    found = same_embedding(reference, other, Views(4), threads=2)
    assert found.values[0] == pytest.approx(1)
    assert found.others["retrieval"].tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    "answers",
    [
        rows([1, 0], [0, 1]),
        [[np.ones(65537, np.float32)]] * 3,
        [[np.ones((count, 4), np.float32)] for count in (2, 3, 1)],
    ],
    ids=["few", "large", "as many as were found"],
)
def test_what_is_not_retrieved(answers: list[Outputs]) -> None:
    found = same_embedding(Oracle(answers), Oracle(answers), Views(len(answers)), threads=1)
    assert found.mean == pytest.approx(1)
    assert not found.others


def test_a_model_that_lacks_an_output_is_refused() -> None:
    output = np.ones(4, np.float32)
    two, one = Oracle([[output, output]]), Oracle([[output]])
    with pytest.raises(MismatchError, match="no output 'y1' to compare"):
        same_embedding(two, one, Views(1), threads=1)
