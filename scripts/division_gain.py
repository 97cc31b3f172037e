"""What dividing a model between float and integers gains on this CPU, predicted and measured.

    uv run python scripts/division_gain.py MODEL... --data IMAGES

For each model: FP32, INT8 wherever the runtime has an integer kernel, and INT8 where it saves time
by `qbench.placement.cpu_times`, in blocks of calls that take turns in one process. Whether the
predicted savings come true shows whether the fitted times hold for this CPU.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

import qbench
from qbench.model.load import load
from qbench.model.prepare import prepare
from qbench.model.shapes import bind_shapes, example_shapes, macs_by_node
from qbench.placement.cut import divider_of
from qbench.placement.targets import place, suited
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.qdq import write_qdq
from qbench.quantization.weights import WeightCoding

ROUNDS = 8
BLOCK_SECONDS = 0.25
WARMUP = 3
"""First calls of a block, which do not count: threads of the other sessions still spin."""


@dataclass(frozen=True)
class Case:
    """One way to run a model: its session and what it is fed."""

    name: str
    session: ort.InferenceSession
    feeds: dict[str, np.ndarray]

    def block(self) -> float:
        """Return the median of the calls of one block, in milliseconds."""
        times: list[float] = []
        end = time.perf_counter() + BLOCK_SECONDS
        while time.perf_counter() < end or len(times) <= WARMUP:
            start = time.perf_counter()
            self.session.run(None, self.feeds)
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times[WARMUP:])


def case(name: str, graph: ir.Model, threads: int) -> Case:
    """Load a graph with static shapes; its inputs are random."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    data = ir.to_proto(graph).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {i.name: random.random(i.shape, np.float32) for i in session.get_inputs()}
    return Case(name, session, feeds)


def measured(cases: list[Case]) -> dict[str, float]:
    """Return milliseconds by name: the median over rounds, in each of which all take turns."""
    random, found = Random(0), {one.name: list[float]() for one in cases}
    for _ in range(ROUNDS):
        for one in random.sample(cases, len(cases)):
            found[one.name].append(one.block())
    return {name: statistics.median(times) for name, times in found.items()}


def compare(path: Path, data: str, threads: int) -> None:
    """Print one line for a model."""
    model = load(path)
    table = qbench.calibrate(model, data)
    prepared, _ = suited(prepare(model), "cpu")  # in float, too: this compares precisions
    shapes = example_shapes(prepared, table.image_size)
    bound = bind_shapes(prepared.ir, shapes)
    whole = place(prepared, "cpu")
    divider = divider_of(bound, whole, macs_by_node(bound))
    if divider is None:
        print(f"{path.name}: times are not known")
        return
    quantizer = Quantizer(model, "cpu", table, Int8Options())
    divided = quantizer.graph(Choice())
    coded = WeightCoding(saturates=quantizer.saturates).encode_all(prepared.ir.graph, whole.weights)
    parameters = quantizer.parameters(whole, Choice())
    everything = write_qdq(prepared.ir.clone(), whole, parameters, coded)
    graphs = {"fp32": bound, "all": everything, "divided": divided.ir}
    times = measured([case(name, bind_shapes(g, shapes), threads) for name, g in graphs.items()])
    saved = {name: times["fp32"] - times[name] for name in ("all", "divided")}
    predicted = (divider.float_time - divider.cheapest().time) / 1e3
    print(
        f"{path.name}: fp32 {times['fp32']:.2f} ms; "
        f"all INT8 {times['fp32'] / times['all']:.2f} x; "
        f"divided {times['fp32'] / times['divided']:.2f} x "
        f"with {divided.mac_fraction:.0%} of MACs; "
        f"saves {saved['divided']:.2f} ms, {predicted:.2f} predicted"
    )


def main() -> None:
    """Compare every model that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", required=True, help="folder of a few images to calibrate on")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for path in arguments.models:
        compare(path, arguments.data, arguments.threads)


if __name__ == "__main__":
    main()
