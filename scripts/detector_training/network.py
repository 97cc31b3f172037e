"""A small anchor-free detector: CSP blocks with SiLU, three scales, distances as distributions.

The layout is that of the YOLOv8 family, and so is the exported output: [N, 4 + classes, cells],
centre and size of each box in pixels, then class probabilities. In training the network returns
the raw distributions and logits instead.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
BINS = 10
"""A side lies 0 to BINS - 1 strides from the centre of a cell."""

_WIDTHS = (16, 24, 32, 40, 48)
_HEAD = 24
_PRIOR = 0.01  # probability of each class before any training


class Raw(NamedTuple):
    """What the network says before decoding: `sides` [N, 4, BINS, A], `logits` [N, classes, A]."""

    sides: Tensor
    logits: Tensor


class ConvNormAct(nn.Sequential):
    """Convolution, batch normalization and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU(inplace=True)


class SplitBlock(nn.Module):
    """Split the channels, refine one half, and join the halves with the refinement."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool = True) -> None:
        super().__init__()
        self.half = half = outputs // 2
        self.enter = ConvNormAct(inputs, outputs)
        self.refine = nn.Sequential(ConvNormAct(half, half, 3), ConvNormAct(half, half, 3))
        self.leave = ConvNormAct(3 * half, outputs)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, inputs, H, W] to [N, outputs, H, W]."""
        kept, half = self.enter(x).split((self.half, self.half), 1)
        refined = self.refine(half)
        refined = half + refined if self.residual else refined
        return self.leave(torch.cat([kept, half, refined], 1))


class PyramidPool(nn.Module):
    """Join features with their maxima over growing neighbourhoods."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvNormAct(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = ConvNormAct(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to features of the same shape."""
        levels = [self.enter(x)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        return self.leave(torch.cat(levels, 1))


class Backbone(nn.Module):
    """Images to features at the three strides."""

    def __init__(self) -> None:
        super().__init__()
        first, second, *wide = _WIDTHS
        self.stem = nn.Sequential(
            ConvNormAct(3, first, 3, 2),
            ConvNormAct(first, second, 3, 2),
            SplitBlock(second, second),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNormAct(before, width, 3, 2), SplitBlock(width, width))
            for before, width in zip((second, *wide), wide, strict=False)
        )
        self.pool = PyramidPool(wide[-1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Images [N, 3, H, W] to features of strides 8, 16 and 32."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return [*features[1:-1], self.pool(features[-1])]


class Neck(nn.Module):
    """Carry what the coarse scales know to the fine ones, and back."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = _WIDTHS[2:]
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_middle = SplitBlock(coarse + middle, middle, residual=False)
        self.to_fine = SplitBlock(middle + fine, fine, residual=False)
        self.down_fine = ConvNormAct(fine, fine, 3, 2)
        self.back_to_middle = SplitBlock(fine + middle, middle, residual=False)
        self.down_middle = ConvNormAct(middle, middle, 3, 2)
        self.back_to_coarse = SplitBlock(middle + coarse, coarse, residual=False)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features of three strides to features of the same shapes."""
        fine, middle, coarse = features
        middle = self.to_middle(torch.cat([self.up(coarse), middle], 1))
        fine = self.to_fine(torch.cat([self.up(middle), fine], 1))
        middle = self.back_to_middle(torch.cat([self.down_fine(fine), middle], 1))
        coarse = self.back_to_coarse(torch.cat([self.down_middle(middle), coarse], 1))
        return [fine, middle, coarse]


def branch(inputs: int, outputs: int, bias: float) -> nn.Sequential:
    """Two convolutions of one head, whose last starts at `bias`."""
    last = nn.Conv2d(_HEAD, outputs, 1)
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(ConvNormAct(inputs, _HEAD, 3), ConvNormAct(_HEAD, _HEAD, 3), last)


class Detector(nn.Module):
    """The whole network, for square images of `side` pixels."""

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        self.backbone, self.neck = Backbone(), Neck()
        widths = _WIDTHS[2:]
        self.sides = nn.ModuleList(branch(width, 4 * BINS, 1.0) for width in widths)
        self.scores = nn.ModuleList(
            branch(width, classes, math.log(_PRIOR / (1 - _PRIOR))) for width in widths
        )
        self.classes = classes
        centres, strides = grid(side)
        self.cells = [(side // stride) ** 2 for stride in STRIDES]
        self.register_buffer("centres", centres)
        self.register_buffer("strides", strides)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float).view(1, BINS, 1, 1))

    def forward(self, image: Tensor) -> Raw | Tensor:
        """Images [N, 3, side, side], 0..1, to `Raw` in training, to [N, 4 + classes, A] after."""
        features = self.neck(self.backbone(image))
        levels = zip(self.sides, self.scores, features, self.cells, strict=True)
        joined = [
            torch.cat([sides(x), scores(x)], 1).reshape(-1, 4 * BINS + self.classes, cells)
            for sides, scores, x, cells in levels
        ]
        sides, logits = torch.cat(joined, 2).split((4 * BINS, self.classes), 1)
        raw = Raw(sides.reshape(-1, 4, BINS, sum(self.cells)), logits)
        if self.training:
            return raw
        return torch.cat([self.centred(raw.sides), raw.logits.sigmoid()], 1)

    def distances(self, sides: Tensor) -> Tensor:
        """The means of the distributions [N, 4, BINS, A], in strides: [N, 4, A]."""
        shares = sides.transpose(1, 2).softmax(1)
        return nn.functional.conv2d(shares, self.bins).squeeze(1)

    def centred(self, sides: Tensor) -> Tensor:
        """Boxes [N, 4, A] by centre and size in pixels."""
        before, after = self.distances(sides).split((2, 2), 1)
        low, high = self.centres - before, self.centres + after
        return torch.cat([(low + high) / 2, high - low], 1) * self.strides

    def corners(self, sides: Tensor) -> Tensor:
        """Boxes [N, A, 4] by corners in pixels."""
        before, after = self.distances(sides).split((2, 2), 1)
        boxes = torch.cat([self.centres - before, self.centres + after], 1) * self.strides
        return boxes.transpose(1, 2)


def grid(side: int) -> tuple[Tensor, Tensor]:
    """Centres [2, A] of all cells, in strides, and the strides [1, A]."""
    centres, strides = [], []
    for stride in STRIDES:
        places = torch.arange(side // stride) + 0.5
        rows, columns = torch.meshgrid(places, places, indexing="ij")
        centres.append(torch.stack([columns.flatten(), rows.flatten()]))
        strides.append(torch.full((1, rows.numel()), float(stride)))
    return torch.cat(centres, 1), torch.cat(strides, 1)
