"""What a budget is spent on: the metrics, and the samples on which they are taken."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from qbench.artifacts import sha256_bytes, sha256_files
from qbench.benchmarking.judging.agreement import AgreementJudge
from qbench.benchmarking.judging.judges import ClassifyJudge, DetectJudge, Judge, SegmentJudge
from qbench.benchmarking.judging.material import Material
from qbench.calibration.table import CalibrationTable
from qbench.data.box_labels import labels_beside
from qbench.data.choice import DataChoice, open_choice, prepared_alike
from qbench.data.samples import Sample, Source, files_below
from qbench.errors import UsageError
from qbench.evaluation.agreement import Measure, by_measure, output_cosine, score_cosine
from qbench.evaluation.detect import DetectOptions, with_decoder
from qbench.evaluation.stream import SampleStream
from qbench.model.load import Model
from qbench.model.spec import is_image
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort.graphs import open_graph

_LABEL_FILES = (".txt", ".png", ".csv", ".json")


@dataclass(frozen=True)
class TuneData:
    """What accuracy means, and on which samples.

    Attributes:
        choice: Which samples; their recipe is the calibration table's unless it names one.
        metric: A key of `METRICS`.
        labels: For `top1` a CSV `file,label`, or None for a folder per class; for `map` a COCO JSON
            file or a folder of YOLO text files, or None where their place tells (see
            `box_labels.labels_beside`); for `miou` a folder of masks; not for `cosine`.
        decoder: How boxes are read; see `model.decoders`.
    """

    choice: DataChoice
    metric: str = "top1"
    labels: Path | str | None = None
    decoder: str = "auto"

    def __post_init__(self) -> None:
        """Check the metric.

        Raises:
            UsageError: It is unknown.
        """
        if self.metric not in METRICS:
            choices = ", ".join(METRICS)
            raise UsageError(f"unknown metric {self.metric!r}; choose one of {choices}")


def material_of(model: Model, table: CalibrationTable, data: TuneData) -> Material:
    """Return what `model` is judged on.

    Raises:
        DataError: The samples cannot be read, or are prepared otherwise than in calibration.
    """
    choice = prepared_alike(data.choice, model.path, table.header.recipe)
    recipe, source = open_choice(model.path, model.inputs, choice)
    place = Path(choice.path)
    labels = None if data.labels is None else Path(data.labels)
    if labels is None and data.metric == "map":
        labels = labels_beside(place)
    return Material(source, place, recipe, labels, data.decoder, model)


def spread_samples(source: Source, count: int) -> list[Sample]:
    """Return `count` evenly spaced samples, others in place of those that cannot be read.

    Raises:
        DataError: Too many cannot be read.
    """
    spaced = (i * len(source) // count for i in range(count))
    order = list(dict.fromkeys([*spaced, *range(len(source))]))
    return list(islice(SampleStream(source, order, usable_cores()), count))


def labels_fingerprint(labels: Path | None) -> str:
    """Return a SHA-256 over the labels: a file, or a folder of them."""
    if labels is None or not labels.exists():
        return sha256_bytes(b"")
    files = [labels] if labels.is_file() else _files(labels)
    return sha256_files(files)


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in files_below(folder, _LABEL_FILES)]


def _boxes(material: Material) -> Judge:
    if material.labels is None:
        raise UsageError(
            "metric map needs labels; add --labels FILE.json or FOLDER, or use --metric cosine"
        )
    return DetectJudge(material, material.labels)


def _cosine(material: Material) -> Judge:
    if material.labels is not None:
        raise UsageError("metric cosine compares with FP32 and reads no labels; drop --labels")
    return AgreementJudge(material, "cosine", by_measure(_closeness(material)))


def _closeness(material: Material) -> Measure:
    """Return the cosine of a detector's scores, which its coordinates would hide, or of outputs."""
    options = DetectOptions(material.recipe, material.decoder)
    first = spread_samples(material.source, 1)[0]
    if any(not is_image(array.shape) for array in first.feeds.values()):
        return output_cosine
    outputs = open_graph(material.float_model().ir).run(first.feeds)
    try:
        options = with_decoder(options, outputs, first)
    except UsageError:  # no detector, as far as can be seen
        return output_cosine
    if options.decoder == "end2end":
        raise UsageError(
            "metric cosine compares boxes one by one, and those of this model have no fixed place; "
            "use --metric map with --labels"
        )
    return score_cosine(options)


METRICS: MappingProxyType[str, Callable[[Material], Judge]] = MappingProxyType(
    {"top1": ClassifyJudge, "map": _boxes, "miou": SegmentJudge, "cosine": _cosine}
)
"""What makes the judge of each metric."""
