import numpy as np
import pytest
from detections import ENCODERS, Oracle, Outputs, Scene, Views, scene

from qbench.errors import DataError, ModelError
from qbench.evaluation.agreement import (
    Measure,
    detections_in_common,
    evaluate,
    output_cosine,
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


def test_outputs_of_other_shapes() -> None:
    with pytest.raises(DataError, match="cannot be compared; run both models on the same inputs"):
        evaluate(Oracle(yolo()), Oracle(yolo(decoder="yolov5")), Views(3), output_cosine, threads=1)


def test_nan() -> None:
    broken = yolo()
    broken[0][0][0, 0] = np.nan
    with pytest.raises(
        ModelError, match=r"NaN or infinity for 000\.png; the precision may be too low"
    ):
        evaluate(Oracle(yolo()), Oracle(broken), Views(3), score_cosine(DetectOptions()), threads=1)
