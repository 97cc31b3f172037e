"""What the detector is taught by: which cells are to find which box, and how wrong they are.

Cells are chosen by how well score and box fit together already (Feng et al., TOOD, 2021); sides are
learned as distributions (Li et al., Generalized Focal Loss, 2020).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from detector_training.network import BINS, Detector, Raw

_CHOSEN = 8  # cells for each box
_BOX_WEIGHT, _SCORE_WEIGHT, _SIDE_WEIGHT = 7.5, 1.0, 1.5
_TINY = 1e-7


@dataclass(frozen=True)
class Targets:
    """Labelled boxes of a batch, filled up to M of each image.

    Attributes:
        boxes: Corners in pixels, [N, M, 4].
        labels: Class of each, [N, M].
        real: Whether there is such a box, [N, M].
    """

    boxes: Tensor
    labels: Tensor
    real: Tensor


def loss_of(network: Detector, raw: Raw, targets: Targets) -> Tensor:
    """The loss of a batch, averaged over what there is to find."""
    boxes = network.corners(raw.sides)
    centres = (network.centres * network.strides).T
    wanted, scores = assigned(boxes.detach(), raw.logits.detach().sigmoid(), centres, targets)
    total = scores.sum().clamp(min=1)
    score_loss = functional.binary_cross_entropy_with_logits(
        raw.logits.transpose(1, 2), scores, reduction="sum"
    )
    weight = scores.sum(2)
    chosen = weight > 0
    box_loss = ((1 - giou(boxes[chosen], wanted[chosen])) * weight[chosen]).sum()
    side_loss = (_side_loss(network, raw.sides, wanted)[chosen] * weight[chosen]).sum()
    weighted = _BOX_WEIGHT * box_loss + _SCORE_WEIGHT * score_loss + _SIDE_WEIGHT * side_loss
    return weighted / total


def assigned(
    boxes: Tensor, scores: Tensor, centres: Tensor, targets: Targets
) -> tuple[Tensor, Tensor]:
    """The box that each cell should find, [N, A, 4], and its class scores, [N, A, classes].

    A box goes to the cells inside it where score^0.5 * IoU^6 is highest; a cell that several boxes
    claim goes to the one that it overlaps most.
    """
    overlap = iou(targets.boxes[:, :, None], boxes[:, None])  # [N, M, A]
    index = targets.labels[:, :, None].expand(-1, -1, scores.shape[2])
    fit = scores.gather(1, index).sqrt() * overlap**6 * _inside(centres, targets)
    claimed = torch.zeros_like(fit).scatter(2, fit.topk(_CHOSEN, 2).indices, 1.0) * (fit > 0)
    best = torch.zeros_like(fit).scatter(1, overlap.argmax(1, keepdim=True), 1.0)
    claimed = torch.where(claimed.sum(1, keepdim=True) > 1, claimed * best, claimed)
    owner = claimed.argmax(1)  # [N, A]
    wanted = targets.boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    fit, overlap = fit * claimed, overlap * claimed
    share = fit / fit.amax(2, keepdim=True).clamp(min=_TINY) * overlap.amax(2, keepdim=True)
    classes = functional.one_hot(targets.labels.gather(1, owner), scores.shape[1])
    return wanted, classes * share.amax(1)[..., None]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Area in common over area in all, of corners [..., 4]."""
    common = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - common
    return common / union.clamp(min=_TINY)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less the empty share of the hull (Rezatofighi et al., 2019), of corners [..., 4]."""
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    common = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - common
    return common / union.clamp(min=_TINY) - (hull - union) / hull.clamp(min=_TINY)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(-1)


def _inside(centres: Tensor, targets: Targets) -> Tensor:
    """Whether cell centres [A, 2] lie in real boxes, [N, M, A]."""
    low, high = targets.boxes[:, :, None, :2], targets.boxes[:, :, None, 2:]
    return ((centres > low) & (centres < high)).all(-1) & targets.real[..., None]


def _side_loss(network: Detector, sides: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of the two bins around the wanted distances, [N, A]."""
    corners = wanted.transpose(1, 2) / network.strides
    distances = torch.cat([network.centres - corners[:, :2], corners[:, 2:] - network.centres], 1)
    distances = distances.clamp(0, BINS - 1.01)
    left = distances.long()
    share = distances - left
    logs = sides.log_softmax(2)
    lower = logs.gather(2, left[:, :, None]).squeeze(2)
    upper = logs.gather(2, left[:, :, None] + 1).squeeze(2)
    return -(lower * (1 - share) + upper * share).mean(1)
