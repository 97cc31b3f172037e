"""COCO mAP of a detector over samples with labelled boxes."""

import logging
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from qbench.data.box_labels import BoxLabels, TrueBoxes
from qbench.data.preprocess import boxes_in_image
from qbench.data.recipes import Recipe
from qbench.data.samples import Sample, Source
from qbench.errors import DataError, ModelError, UsageError
from qbench.evaluation.coco import AveragePrecision, Detections, load_library
from qbench.evaluation.numbers import WHOSE_FAULT
from qbench.evaluation.stream import SampleStream, labelled
from qbench.formatting import first_names
from qbench.model.decoders import DECODERS, Candidates, choose_decoder
from qbench.runtimes.base import Runner, Tensors

logger = logging.getLogger(__name__)

AUTO = "auto"

_MOST_CANDIDATES = 10_000
# Quantized probabilities may exceed 1 a little.
_HIGHEST_SCORE = 1.1
_TABLE_RANK = 2


@dataclass(frozen=True)
class DetectOptions:
    """How boxes are read from a model's outputs.

    The thresholds are those of YOLOX's own evaluation. As in that of YOLOv5 and YOLOv8, a box
    counts for every class whose score exceeds the threshold, which is worth about half a point of
    mAP over the best class alone; and as in that of YOLOX, boxes are not clipped to the image.

    Attributes:
        recipe: How the samples were prepared; None leaves boxes in pixels of the model's input.
        decoder: A key of `decoders.DECODERS`, or `auto`.
        score_threshold: Boxes that do not exceed it do not count.
        iou_threshold: Of two boxes of a class that overlap by more, the worse is dropped.
        most: At most this many boxes of an image count, the best ones.
    """

    recipe: Recipe | None = None
    decoder: str = AUTO
    score_threshold: float = 0.01
    iou_threshold: float = 0.65
    most: int = 100

    def __post_init__(self) -> None:
        """Check the decoder's name.

        Raises:
            UsageError: There is no such decoder.
        """
        if self.decoder not in (AUTO, *DECODERS):
            raise UsageError(
                f"unknown decoder {self.decoder!r}; choose {AUTO}, {', '.join(DECODERS)}"
            )


@dataclass(frozen=True)
class DetectResult:
    """mAP over the samples that have labels and could be read, in the source's order.

    Attributes:
        map: Mean average precision over the IoU thresholds .50 to .95, as COCO defines it.
        map50: The same at the IoU threshold .50 alone.
        names: Name of each sample; models that judged the same names can be paired.
        skipped: Names of labelled samples that could not be read.
        decoder: Name of the decoder that read the outputs.
        truth: Labelled boxes of each sample in pixels; their categories are class indices.
        found: Detections in each sample, in pixels.
        most: At most this many detections of a sample count.
    """

    map: float
    map50: float
    names: tuple[str, ...]
    skipped: tuple[str, ...]
    decoder: str
    truth: tuple[TrueBoxes, ...]
    found: tuple[Detections, ...]
    most: int

    @property
    def n(self) -> int:
        """Number of samples judged."""
        return len(self.names)

    def resampled(self, draws: int, seed: int) -> NDArray[np.float64]:
        """Return mAP and map50 over sets of n samples drawn with replacement, [draws, 2].

        Results over the same names and with the same seed draw the same sets, so that differences
        of their values are the paired bootstrap of a difference. NaN where a set has no boxes.
        """
        precision = AveragePrecision(self.truth, self.found, self.most)
        rng = np.random.default_rng(seed)
        return np.array([precision.means(rng.integers(self.n, size=self.n)) for _ in range(draws)])


def evaluate(
    runner: Runner, source: Source, labels: BoxLabels, options: DetectOptions, threads: int
) -> DetectResult:
    """Run every labelled sample of `source` and compare what is found with its boxes.

    Samples are read by `threads` threads a little ahead of the model.

    Raises:
        DataError: No sample has labels, the labels' categories are not the model's classes, the
            recipe crops, or too many samples cannot be read.
        ModelError: The outputs do not suit the decoder, or hold NaN or infinity.
        UsageError: The decoder cannot be told from the outputs.
        UnfitError: faster-coco-eval is not installed.
    """
    load_library()  # before the model runs for nothing
    samples = SampleStream(source, labelled(source, labels.truth, "labels"), threads)
    resized: list[str] = []
    truth: dict[str, TrueBoxes] = {}
    found: dict[str, Detections] = {}
    for sample in samples:
        outputs = runner.run(sample.feeds)
        options = with_decoder(options, outputs, sample)
        candidates = read_candidates(outputs, sample, options)
        found[sample.name] = _in_image(suppress(candidates, options), sample, options)
        truth[sample.name] = _true_boxes(labels, sample, candidates.classes)
        if labels.sizes.get(sample.name, sample.image_size) != sample.image_size:
            resized.append(sample.name)
    _warn_of_resized(resized, len(truth))
    precision = AveragePrecision(tuple(truth.values()), tuple(found.values()), options.most)
    overall, at_half = precision.means()
    return DetectResult(
        map=overall,
        map50=at_half,
        names=tuple(found),
        skipped=samples.skipped,
        decoder=options.decoder,
        truth=tuple(truth.values()),
        found=tuple(found.values()),
        most=options.most,
    )


def _warn_of_resized(names: list[str], total: int) -> None:
    if names:
        logger.warning(
            "%d of %d images have another size than when they were labelled, so that their boxes "
            "lie elsewhere: %s; give the images that were labelled",
            len(names),
            total,
            first_names(names),
        )


def with_decoder(options: DetectOptions, outputs: Tensors, sample: Sample) -> DetectOptions:
    """Return `options` with the decoder that fits the outputs of a sample, where it is `auto`.

    Raises:
        UsageError: None fits, or more than one does.
    """
    if options.decoder != AUTO:
        return options
    # Here a table with one row is no box: it may be the logits of a classifier.
    one = [
        output[0] if output.shape[:1] == (sample.batch,) else output for output in outputs.values()
    ]
    name = choose_decoder(one, _input_size(sample, options))
    return replace(options, decoder=name)


def read_candidates(outputs: Tensors, sample: Sample, options: DetectOptions) -> Candidates:
    """Return the boxes that a model proposes for a sample, in pixels of the model's input.

    Raises:
        ModelError: The outputs do not suit the decoder, or hold NaN or infinity.
    """
    for name, output in outputs.items():
        # A logit of minus infinity is a plain no.
        if not (output < np.inf).all():
            raise ModelError(
                f"output {name!r} holds NaN or infinity for {sample.name}; {WHOSE_FAULT}"
            )
    decode = DECODERS[options.decoder]
    candidates = decode(_of_one_image(outputs, sample), _input_size(sample, options))
    highest = candidates.scores.max(initial=0)
    if highest > _HIGHEST_SCORE:
        raise ModelError(
            f"decoder {options.decoder!r} finds scores up to {highest:.3g}, which are no "
            f"probabilities; choose another --decoder: {', '.join(DECODERS)}"
        )
    return candidates


def suppress(candidates: Candidates, options: DetectOptions) -> Detections:
    """Return the best boxes of all classes, without those that overlap a better one of their class.

    Only the best 10000 are looked at, so that a model which scores everything high ends in time.
    """
    rows, columns = np.nonzero(candidates.scores > options.score_threshold)
    scores = candidates.scores[rows, columns]
    best = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
    boxes, scores = candidates.boxes[rows[best]], scores[best]
    classes = columns[best] if candidates.labels is None else candidates.labels[rows[best]]
    if candidates.overlapping and len(best):
        sized = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
        kept = cv2.dnn.NMSBoxesBatched(
            sized.tolist(), scores.tolist(), classes.tolist(), 0.0, options.iou_threshold
        )
        # OpenCV returns them best first but for equal scores.
        keep = np.sort(np.asarray(kept, dtype=np.int64))
        boxes, scores, classes = boxes[keep], scores[keep], classes[keep]
    top = slice(options.most)
    return Detections(boxes[top], scores[top], classes[top].astype(np.int64))


def _of_one_image(outputs: Tensors, sample: Sample) -> list[NDArray[np.generic]]:
    """Return the outputs without their batch axis; a repeated sample has the same in every row.

    Tables have none: in a table of boxes with one row, that row is a box.
    """
    return [
        output[0] if output.ndim > _TABLE_RANK and len(output) == sample.batch else output
        for output in outputs.values()
    ]


def _input_size(sample: Sample, options: DetectOptions) -> tuple[int, int]:
    shape = next(iter(sample.feeds.values())).shape
    return (options.recipe or Recipe()).height_and_width(shape)


def _in_image(found: Detections, sample: Sample, options: DetectOptions) -> Detections:
    if options.recipe is None or sample.image_size is None:
        raise DataError(
            f"{sample.name} is an array, whose boxes cannot be compared with those of an image; "
            "give --data with a folder of images"
        )
    size = _input_size(sample, options)
    return replace(
        found, boxes=boxes_in_image(found.boxes, sample.image_size, size, options.recipe)
    )


def _true_boxes(labels: BoxLabels, sample: Sample, classes: int | None) -> TrueBoxes:
    """Return the labelled boxes of a sample with class indices as categories."""
    assert sample.image_size is not None
    there = labels.truth[sample.name].in_pixels(sample.image_size)
    return replace(there, categories=_class_indices(there.categories, labels.categories, classes))


def _class_indices(
    found: NDArray[np.int64], categories: tuple[int, ...] | None, classes: int | None
) -> NDArray[np.int64]:
    """Return class indices of categories.

    A category is the index of its class where that is possible; else, as in COCO's own files, whose
    80 categories have numbers up to 90, its place among all categories.
    """
    known = categories or tuple(found.tolist())
    if classes is None:
        classes = len(categories) if categories else max(known, default=0) + 1
    if max(known, default=0) < classes:
        return found
    if categories is None or len(categories) != classes:
        raise DataError(
            f"category {max(known)} of the labels is beyond the model's {classes} classes; "
            f"give labels with the categories 0 to {classes - 1}, or {classes} in all"
        )
    return np.searchsorted(categories, found)
