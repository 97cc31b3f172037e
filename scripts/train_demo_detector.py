"""Train the detector of `qbench demo --task detect` on generated scenes and export it to ONNX.

    python scripts/train_demo_detector.py --out qbench/demo/detector.onnx

Needs torch, onnx, onnxruntime, faster-coco-eval and OpenCV; takes about a quarter of an hour on two
CPU cores.
"""

import argparse
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from detector_training.loss import Targets, loss_of
from detector_training.network import Detector
from torch import Tensor, nn
from unfused_export import unfused

from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.timing.settings import MODES
from qbench.data.choice import DataChoice
from qbench.data.preprocess import letterbox_geometry, preprocess
from qbench.data.recipes import load_recipe
from qbench.demo.crowds import MOST, draw_crowd, write_crowds
from qbench.demo.outlines import CLASSES
from qbench.demo.scenes import EVALUATION_SEEDS, TRAINING_SEEDS

SIDE, RECIPE = 160, load_recipe("yolov8")
BATCH, MAX_RATE, AVERAGING = 32, 4e-3, 0.998
MAX_BYTES = 3_000_000


@dataclass(frozen=True)
class Scenes:
    """Scenes as the network takes them: `pixels` [n, 3, SIDE, SIDE] and their boxes."""

    pixels: Tensor
    targets: Targets


def scenes(seeds: Sequence[int]) -> Scenes:
    """Draw one scene for each seed."""
    pixels = np.empty((len(seeds), 3, SIDE, SIDE), np.uint8)
    boxes = np.zeros((len(seeds), MOST, 4), np.float32)
    labels = np.zeros((len(seeds), MOST), np.int64)
    real = np.zeros((len(seeds), MOST), np.bool_)
    for index, seed in enumerate(seeds):
        crowd = draw_crowd(seed)
        count = len(crowd.labels)
        array = preprocess(crowd.pixels[..., ::-1], RECIPE, (SIDE, SIDE))
        pixels[index] = np.rint(array[0] * 255)
        box = letterbox_geometry(crowd.pixels.shape[:2], (SIDE, SIDE), RECIPE)
        boxes[index, :count] = crowd.boxes * box.scale + np.tile([box.left, box.top], 2)
        labels[index, :count], real[index, :count] = crowd.labels, True
    targets = Targets(*(torch.from_numpy(array) for array in (boxes, labels, real)))
    return Scenes(torch.from_numpy(pixels), targets)


def batches(data: Scenes) -> Iterator[tuple[Tensor, Targets]]:
    """All scenes in random order, each batch turned by one random symmetry of the square."""
    order = torch.randperm(len(data.pixels))
    for chunk in order[: len(order) // BATCH * BATCH].split(BATCH):
        there = data.targets
        pixels = data.pixels[chunk].float() / 255
        pixels, boxes = turned(pixels, there.boxes[chunk])
        yield (
            pixels.contiguous(memory_format=torch.channels_last),
            Targets(boxes, there.labels[chunk], there.real[chunk]),
        )


def turned(pixels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Apply one random symmetry of the square to a batch; no class changes by it."""
    mirror_rows, mirror_columns, transpose = (torch.rand(3) < 0.5).tolist()
    x1, y1, x2, y2 = boxes.unbind(2)
    if mirror_rows:
        pixels, y1, y2 = pixels.flip(2), SIDE - y2, SIDE - y1
    if mirror_columns:
        pixels, x1, x2 = pixels.flip(3), SIDE - x2, SIDE - x1
    if transpose:
        pixels, x1, y1, x2, y2 = pixels.transpose(2, 3), y1, x1, y2, x2
    return pixels, torch.stack([x1, y1, x2, y2], 2)


def train(network: Detector, data: Scenes, epochs: int) -> Detector:
    """Train with AdamW, one warm-up and one decay of the rate; return the averaged network."""
    steps = len(data.pixels) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, MAX_RATE, epochs * steps, pct_start=0.1
    )
    average = copy.deepcopy(network)
    network.train()
    for epoch in range(epochs):
        losses = []
        for pixels, targets in batches(data):
            loss = loss_of(network, network(pixels), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 10)
            optimizer.step()
            schedule.step()
            follow(average, network, schedule.last_epoch)
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: training loss {np.mean(losses):.4f}", flush=True)
    return average


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, step: int) -> None:
    """Move the averaged weights and statistics towards the trained ones, less and less."""
    kept = min(AVERAGING, step / (step + 10))
    for slow, fast in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - kept)


def export(network: Detector) -> bytes:
    """The network as ONNX, with the shape of its output."""
    exported = unfused(network, SIDE, "images", "output0")
    sizes = exported.graph.output[0].type.tensor_type.shape.dim
    sizes[1].dim_value, sizes[2].dim_value = 4 + network.classes, sum(network.cells)
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString()


def held_out_map(model: bytes, seeds: Sequence[int]) -> float:
    """COCO's mAP of an ONNX model on scenes of `seeds`, as `qbench bench` measures it."""
    with TemporaryDirectory(prefix="qbench-") as name:
        folder = Path(name)
        (folder / "detector.onnx").write_bytes(model)
        labels = write_crowds(folder / "val", len(seeds), seeds[0])
        images = LabelledData(DataChoice(folder / "val", RECIPE), labels, "detect")
        result = benchmark(
            folder / "detector.onnx",
            precisions=["fp32"],
            images=images,
            options=Options(MODES["quick"]),
        )
    assert result.rows[0].accuracy is not None
    return result.rows[0].accuracy.value


def main() -> None:
    """Train, export, measure on scenes that training never saw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--scenes", type=int, default=6000, help="training scenes")
    parser.add_argument("--held-out", type=int, default=500, help="evaluation scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("qbench/demo/detector.onnx"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)

    network = Detector(len(CLASSES), SIDE).to(memory_format=torch.channels_last)
    network = train(network, scenes(TRAINING_SEEDS[: options.scenes]), options.epochs)
    exported = export(network)
    held_out = held_out_map(exported, EVALUATION_SEEDS[-options.held_out :])
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters} parameters, {len(exported)} bytes, held-out mAP {held_out:.4f}")
    if len(exported) > MAX_BYTES:
        raise SystemExit(f"{len(exported)} bytes are over {MAX_BYTES}: make the model smaller")
    options.out.write_bytes(exported)


if __name__ == "__main__":
    main()
