from pathlib import Path

import pytest

from qbench.engines.auditing.engine import EngineAudit, NodeFinding
from qbench.engines.auditing.requirement import check_engine_int8
from qbench.errors import BudgetError, UnfitError

ENGINE = Path("m.engine")


def audit_of(nodes: dict[str, dict[str, int]]) -> EngineAudit:
    floats = tuple(
        NodeFinding(f"{op_type}_{i}", op_type, "Float", "")
        for op_type, counts in nodes.items()
        for i in range(counts.get("Float", 0))
    )
    return EngineAudit({}, nodes, floats, ())


def test_enough() -> None:
    check_engine_int8(ENGINE, audit_of({"Conv": {"Int8": 19, "Float": 1}}), 0.95)


def test_convolutions_count_alone_where_there_are_some() -> None:
    nodes = {"MatMul": {"Float": 9}, "Conv": {"Int8": 1}}
    check_engine_int8(ENGINE, audit_of(nodes), 1.0)


def test_too_few_convolutions() -> None:
    nodes = {"MatMul": {"Float": 1}, "Conv": {"Int8": 1, "Float": 5}}
    with pytest.raises(
        BudgetError,
        match=r"^16\.7 % of the convolutions of m\.engine run in INT8, fewer than the 95\.0 % "
        "required; not in INT8: Conv_0, Conv_1, Conv_2 and 2 more$",
    ):
        check_engine_int8(ENGINE, audit_of(nodes), 0.95)


def test_without_convolutions_all_compute_nodes_count() -> None:
    nodes = {"MatMul": {"Int8": 1}, "Gemm": {"Float": 1}}
    check_engine_int8(ENGINE, audit_of(nodes), 0.5)
    with pytest.raises(BudgetError, match=r"50\.0 % of the compute nodes .* not in INT8: Gemm_0$"):
        check_engine_int8(ENGINE, audit_of(nodes), 0.6)


def test_no_audit() -> None:
    with pytest.raises(UnfitError, match=r"how much of m\.engine runs in INT8 is unknown: .*; bui"):
        check_engine_int8(ENGINE, None, 0.95)


def test_nothing_to_count() -> None:
    with pytest.raises(UnfitError, match=r"m\.engine has no Conv, ConvTranspose, Gemm or MatMul"):
        check_engine_int8(ENGINE, audit_of({}), 0.95)
