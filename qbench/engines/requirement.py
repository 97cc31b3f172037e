"""The least share of INT8 that a user requires of an engine."""

from pathlib import Path

from qbench.data.samples import first_names
from qbench.engines.audit import EngineAudit, count_in
from qbench.errors import BudgetError, UnfitError


def check_int8_share(engine: Path, audit: EngineAudit | None, least: float) -> None:
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
    counts = audit.nodes_by_dtype
    what, op_types = ("convolutions", ["Conv"]) if "Conv" in counts else ("compute nodes", counts)
    int8, total = count_in({op_type: counts[op_type] for op_type in op_types})
    if not total:
        raise UnfitError(
            f"{engine} has no Conv, ConvTranspose, Gemm or MatMul that could run in INT8; "
            "leave --require-int8 out"
        )
    share = int8 / total
    if share < least:
        floats = [node.node for node in audit.not_int8 if node.op_type in op_types]
        raise BudgetError(
            f"{100 * share:.1f} % of the {what} of {engine} run in INT8, fewer than the "
            f"{100 * least:.1f} % required; not in INT8: {first_names(floats)}"
        )
