"""Train the classifier of `qbench demo` on generated images and export it to ONNX.

    python scripts/train_demo.py --out qbench/demo/classifier.onnx

Needs torch, onnx, onnxruntime and OpenCV; takes a few minutes on two CPU cores.
"""

import argparse
import itertools
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from unfused_export import unfused

from qbench.demo.scenes import CLASSES, EVALUATION_SEEDS, TRAINING_SEEDS, draw

SIDE, MEAN, STD = 64, 0.5, 0.25
BATCH, MAX_RATE = 64, 4e-3
MAX_BYTES = 2_000_000


class ConvNormAct(nn.Sequential):
    """Convolution, batch normalization and an activation, or none (the linear bottleneck)."""

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: type[nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels[1])
        self.act = act()


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the channel means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C, H, W] to features of the same shape."""
        return x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project back; add the input where the shapes agree."""

    def __init__(
        self, channels: tuple[int, int], stride: int, act: type[nn.Module], *, excite: bool = False
    ) -> None:
        super().__init__()
        wide = 4 * channels[0]
        self.expand = ConvNormAct((channels[0], wide), 1, act=act)
        self.depthwise = ConvNormAct((wide, wide), 3, stride, groups=wide, act=act)
        self.excite = SqueezeExcite(wide, wide // 8) if excite else nn.Identity()
        self.project = ConvNormAct((wide, channels[1]), 1)
        self.residual = stride == 1 and channels[0] == channels[1]

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C, H, W] to features [N, C', H', W']."""
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class Classifier(nn.Module):
    """A small inverted-residual network: [N, 3, 64, 64] to logits [N, classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct((3, 16), 3, stride=2, act=nn.ReLU6)
        self.blocks = nn.Sequential(
            InvertedResidual((16, 24), 2, nn.ReLU6),
            InvertedResidual((24, 24), 1, nn.ReLU6),
            InvertedResidual((24, 40), 2, nn.ReLU6),
            InvertedResidual((40, 40), 1, nn.ReLU6),
            InvertedResidual((40, 64), 1, nn.SiLU, excite=True),
            InvertedResidual((64, 64), 1, nn.SiLU),
            InvertedResidual((64, 80), 2, nn.SiLU),
            InvertedResidual((80, 80), 1, nn.SiLU),
        )
        self.head = ConvNormAct((80, 192), 1, act=nn.SiLU)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classify = nn.Linear(192, len(CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        """Images [N, 3, 64, 64] to logits [N, classes]."""
        return self.classify(self.flatten(self.pool(self.head(self.blocks(self.stem(image))))))


def images(seeds: Iterable[int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One image of each class for every seed: RGB pixels [N, 64, 64, 3] and labels [N]."""
    pairs = list(itertools.product(seeds, range(len(CLASSES))))
    pixels = [cv2.resize(draw(label, seed), (SIDE, SIDE)) for seed, label in pairs]
    return np.stack(pixels), np.array([label for _, label in pairs])


def normalized(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels [N, H, W, 3] as the model takes them: [N, 3, H, W] around 0."""
    return ((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)


def turned(batch: Tensor) -> Tensor:
    """Apply one random symmetry of the square to a batch; no class changes by it."""
    mirror_rows, mirror_columns, transpose = (torch.rand(3) < 0.5).tolist()
    batch = batch.flip(2) if mirror_rows else batch
    batch = batch.flip(3) if mirror_columns else batch
    return batch.transpose(2, 3) if transpose else batch


def train(model: nn.Module, pixels: NDArray[np.uint8], labels: Tensor, epochs: int) -> None:
    """Minimize cross-entropy with AdamW, one warm-up and one decay of the learning rate."""
    steps = len(pixels) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, MAX_RATE, epochs * steps, pct_start=0.1
    )
    model.train()
    for epoch in range(epochs):
        losses = []
        for chunk in torch.randperm(len(pixels))[: steps * BATCH].split(BATCH):
            batch = turned(torch.from_numpy(normalized(pixels[chunk.numpy()])))
            logits = model(batch.contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits, labels[chunk])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: training loss {np.mean(losses):.4f}", flush=True)


def export(model: nn.Module) -> bytes:
    """The model as ONNX."""
    exported = unfused(model, SIDE, "image", "logits")
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString()


def accuracy(model: bytes, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Top-1 accuracy of an ONNX model, measured with ONNX Runtime."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": normalized(pixels)})
    return float((logits.argmax(1) == labels).mean())


def main() -> None:
    """Train, export, measure on images that training never saw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=2000, help="training images of each class")
    parser.add_argument("--held-out", type=int, default=200, help="evaluation images of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("qbench/demo/classifier.onnx"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    model = Classifier().to(memory_format=torch.channels_last)
    pixels, labels = images(TRAINING_SEEDS[: options.images])
    train(model, pixels, torch.from_numpy(labels), options.epochs)
    exported = export(model)
    held_out = accuracy(exported, *images(EVALUATION_SEEDS[: options.held_out]))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {len(exported)} bytes, held-out accuracy {held_out:.4f}")
    if len(exported) > MAX_BYTES:
        raise SystemExit(f"{len(exported)} bytes are over {MAX_BYTES}: make the model smaller")
    options.out.write_bytes(exported)


if __name__ == "__main__":
    main()
