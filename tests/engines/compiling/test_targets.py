from enum import IntEnum
from types import ModuleType

import graphs
import pytest

from qbench.engines.compiling.targets import (
    DEFAULT_TARGETS,
    check_products,
    check_targets,
    choose_targets,
)
from qbench.errors import UsageError

CAPABILITIES = {
    "NONE": 0,
    "CURRENT": 1,
    "SM75": 75,
    "SM80": 80,
    "SM86": 86,
    "SM89": 89,
    "SM120": 120,
}


@pytest.fixture
def rtx():
    module = ModuleType("tensorrt_rtx")
    module.ComputeCapability = IntEnum("ComputeCapability", CAPABILITIES)
    return module


def test_without_a_gpu_the_defaults_are_built_for(rtx):
    assert choose_targets(rtx, (), None) == DEFAULT_TARGETS


def test_the_gpu_at_hand_is_built_for(rtx):
    assert choose_targets(rtx, (), "sm75") == ("sm75",)


def test_a_gpu_that_the_module_does_not_know_leaves_the_defaults(rtx):
    assert choose_targets(rtx, (), "sm90") == DEFAULT_TARGETS


def test_wanted_targets_win(rtx):
    assert choose_targets(rtx, ("sm89", "sm86", "sm89"), "sm75") == ("sm89", "sm86")


def test_older_gpus_are_left_out_where_the_model_needs_newer_ones(rtx):
    assert choose_targets(rtx, (), None, least=89) == ("sm89", "sm120")
    assert choose_targets(rtx, (), "sm86", least=89) == ("sm89", "sm120")
    assert choose_targets(rtx, (), "sm89", least=89) == ("sm89",)


def test_a_wanted_gpu_must_know_the_precision():
    check_targets("fp8", ("sm89", "sm120"))
    check_targets("fp16", ("sm75",))
    check_targets("fp8", ("nonsense",))  # which the module itself refuses
    with pytest.raises(UsageError, match="--bf16 needs sm80 or later, not sm75; drop it from --ta"):
        check_targets("bf16", ("sm80", "sm75"))
    with pytest.raises(UsageError, match=r"--int8 needs sm80 .*; drop it from .*, or use --fp16$"):
        check_targets("int8", ("sm86", "sm75"))


def test_unknown_target(rtx):
    with pytest.raises(UsageError, match=r"'sm90'; choose from sm75, sm80, sm86, sm89, sm120$"):
        choose_targets(rtx, ("sm90",), None)


def test_tensorrt_builds_for_the_gpu_at_hand():
    assert choose_targets(ModuleType("tensorrt"), (), "sm90") == ()
    with pytest.raises(
        UsageError, match=r"tensorrt cannot build for sm86 ahead of time; .*--backend rtx"
    ):
        choose_targets(ModuleType("tensorrt"), ("sm86",), "sm90")


def test_turing_multiplies_no_matrices_in_fp32():
    with_gemm = graphs.model_of(graphs.classifier()).ir.graph
    with pytest.raises(UsageError, match="--fp32 for sm75 cannot build Gemm fc; drop sm75 from"):
        check_products("fp32", ["sm86", "sm75"], with_gemm)
    check_products("fp16", ["sm75"], with_gemm)
    check_products("fp32", ["sm80"], with_gemm)
    check_products("fp32", ["sm75"], graphs.model_of(graphs.residual()).ir.graph)
