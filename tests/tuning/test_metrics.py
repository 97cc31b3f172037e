from pathlib import Path

import cv2
import graphs
import numpy as np
import pytest
from detections import ENCODERS, SIZE, scene

from qbench.benchmarking.judging.material import Material
from qbench.data.choice import DataChoice
from qbench.data.recipes import Recipe
from qbench.data.samples import Sample, Source
from qbench.data.synthetic import SyntheticSource
from qbench.errors import DataError, UsageError
from qbench.model.load import Model
from qbench.runtimes.ort.graphs import open_graph
from qbench.tuning.metrics import (
    METRICS,
    TuneData,
    labels_fingerprint,
    material_of,
    spread_samples,
)

FOUND = scene((8, 8, 24, 40, 2, 0.9), (50, 8, 70, 40, 1, 0.6))


def detector(encoder: str, boxes_by: float = 1.0) -> Model:
    """A model that finds `FOUND` in every image, with its coordinates scaled."""
    (answer,) = ENCODERS[encoder](FOUND)
    answer = answer.copy()
    if encoder == "yolov8":
        answer[:4] *= boxes_by
    b = graphs.Builder((1, 3, *SIZE))
    mean = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", b.x))
    weight = b.constant("w", np.zeros((3, answer.size), np.float32))
    row = b.node("Gemm", "fc", mean, weight, b.constant("b", answer.astype(np.float32).ravel()))
    shape = b.constant("shape", np.array([1, *answer.shape]))
    return graphs.model_of(b.model(b.node("Reshape", "y", row, shape)))


def material(model: Model, labels: Path | None = None) -> Material:
    source: Source = SyntheticSource(model.inputs, 4, seed=0)
    return Material(source, Path("x"), Recipe(name="r"), labels, "auto", model)


def test_cosine_of_a_detector_is_that_of_its_scores() -> None:
    judge = METRICS["cosine"](material(detector("yolov8")))
    moved = judge.judge(open_graph(detector("yolov8", boxes_by=0.5).ir))
    assert moved.accuracy.value == pytest.approx(1)


def test_cosine_of_other_models_is_that_of_their_outputs() -> None:
    model = graphs.model_of(graphs.conv_bn_relu())
    other = graphs.conv_bn_relu()
    judge = METRICS["cosine"](material(model))
    assert judge.judge(open_graph(model.ir)).accuracy.value == pytest.approx(1)
    other.graph.initializer[0].raw_data = bytes(len(other.graph.initializer[0].raw_data))
    assert judge.judge(open_graph(graphs.model_of(other).ir)).accuracy.value < 0.99


def test_cosine_of_tokens_is_that_of_the_outputs() -> None:
    model = graphs.model_of(graphs.attention())
    judged = METRICS["cosine"](material(model)).judge(open_graph(model.ir))
    assert judged.accuracy.value == pytest.approx(1)


def test_boxes_without_a_place_have_no_cosine() -> None:
    with pytest.raises(UsageError, match="those of this model have no fixed place; use --metric"):
        METRICS["cosine"](material(detector("end2end")))


def test_cosine_reads_no_labels() -> None:
    with pytest.raises(UsageError, match="cosine compares with FP32 and reads no labels; drop"):
        METRICS["cosine"](material(detector("yolov8"), Path("labels")))


def test_map_needs_labels() -> None:
    with pytest.raises(UsageError, match=r"metric map needs labels; add --labels FILE\.json or F"):
        METRICS["map"](material(detector("yolov8")))


@pytest.mark.parametrize(("metric", "labels"), [("map", "labels"), ("cosine", None)])
def test_boxes_may_lie_beside_the_images(tmp_path: Path, metric: str, labels: str | None) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "labels" / "a.txt").touch()
    model, table = detector("yolov8"), graphs.table_of(detector("yolov8"))
    data = TuneData(DataChoice(tmp_path / "images", Recipe(name="r")), metric)
    assert material_of(model, table, data).labels == (tmp_path / labels if labels else None)


def test_an_unknown_metric() -> None:
    with pytest.raises(UsageError, match="unknown metric 'luck'; choose one of top1, map, miou"):
        TuneData(DataChoice(Path("x")), "luck")


def test_samples_are_spread_evenly() -> None:
    source = SyntheticSource(graphs.model_of(graphs.residual()).inputs, 6, seed=0)
    names = [source.name(index) for index in range(6)]
    assert [sample.name for sample in spread_samples(source, 3)] == names[::2]
    assert len(spread_samples(source, 60)) == 6


class _Torn(SyntheticSource):
    """Its first sample cannot be read."""

    def load(self, index: int) -> Sample:
        if index == 0:
            raise DataError("torn")
        return super().load(index)


def test_another_sample_stands_in_for_one_that_cannot_be_read() -> None:
    source = _Torn(graphs.model_of(graphs.residual()).inputs, 20, seed=0)
    names = [sample.name for sample in spread_samples(source, 2)]
    assert names == [source.name(10), source.name(1)]


def test_labels_have_a_hash(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    hashes = {labels_fingerprint(None)}
    for text in ("x", "y"):
        table.write_text(text, encoding="utf-8")
        hashes.add(labels_fingerprint(table))
        assert labels_fingerprint(tmp_path) == labels_fingerprint(table)
    assert len(hashes) == 3
