"""The least share of INT8 that a user requires of a model or an engine."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from qbench.engines.auditing.engine import EngineAudit, NodeFinding, count_in
from qbench.errors import BudgetError, UnfitError
from qbench.formatting import first_names


def check_engine_int8(engine: Path, audit: EngineAudit | None, least: float) -> None:
    """Make sure that enough convolutions run in INT8, or compute nodes where there are none.

    Args:
        engine: The engine file, which is kept whatever the outcome.
        audit: Which nodes run in which type; None where that is not known.
        least: Share of 1.

    Raises:
        BudgetError: Fewer do.
        UnfitError: It is not known, or the engine computes nothing that could be in INT8.
    """
    if audit is None:
        raise UnfitError(
            f"how much of {engine} runs in INT8 is unknown: this TensorRT lists no layers here; "
            "build with --backend rtx, or leave --require-int8 out"
        )
    counts, what = audit.nodes_by_dtype, "compute nodes"
    if "Conv" in counts:
        counts, what = {"Conv": counts["Conv"]}, "convolutions"
    check_int8_share(str(engine), counts, audit.not_int8, least, what)


def check_int8_share(
    name: str,
    nodes_by_dtype: Mapping[str, Mapping[str, int]],
    not_int8: Iterable[NodeFinding],
    least: float,
    what: str = "compute nodes",
) -> None:
    """Make sure that at least the share `least` of the nodes that are counted run in INT8.

    Raises:
        BudgetError: Fewer do.
        UnfitError: There are none.
    """
    int8, total = count_in(nodes_by_dtype)
    if not total:
        raise UnfitError(
            f"{name} has no Conv, ConvTranspose, Gemm or MatMul that could run in INT8; "
            "leave --require-int8 out"
        )
    share = int8 / total
    if share < least:
        floats = [node.node for node in not_int8 if node.op_type in nodes_by_dtype]
        raise BudgetError(
            f"{100 * share:.1f} % of the {what} of {name} run in INT8, fewer than the "
            f"{100 * least:.1f} % required; not in INT8: {first_names(floats)}"
        )
