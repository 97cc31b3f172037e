from msgspec.structs import replace
from runs_to_show import ENVIRONMENT, result_to_show, rows

from qbench.benchmarking.timing.settings import Settings
from qbench.report.about import float_groups, machine_terms, method_terms


def test_the_machine_in_words() -> None:
    terms = dict(machine_terms(ENVIRONMENT))
    assert terms["cores"] == "8 logical cores, of which the group may use 4"
    assert terms["load"] == "0.50, 0.40, 0.30 over the last 1, 5 and 15 minutes"
    assert terms["GPU"] == (
        "Imaginary GPU, 8.0 GiB, compute capability 8.9, driver 590.1, clock 1500 of 2100 MHz"
    )
    assert terms["packages"] == "qbench-onnx 0.1.0, onnxruntime 1.31.1"


def test_what_the_platform_did_not_tell_is_left_out() -> None:
    bare = replace(
        ENVIRONMENT, core_quota=None, isa=None, governor=None, load_average=None, gpus=None
    )
    terms = dict(machine_terms(bare))
    assert terms["cores"] == "8 logical cores"
    assert not {"instruction sets", "governor", "load", "GPU"} & terms.keys()


def test_several_gpus_are_numbered_and_gaps_are_told() -> None:
    assert ENVIRONMENT.gpus is not None
    gpu = replace(ENVIRONMENT.gpus[0], memory_bytes=None, sm_clock_mhz=None)
    terms = dict(machine_terms(replace(ENVIRONMENT, gpus=(gpu, gpu))))
    assert terms["GPU 1"].startswith("Imaginary GPU, compute capability 8.9")
    assert terms["GPU 1"].endswith("clock ? of 2100 MHz")


def test_the_method_names_the_settings() -> None:
    terms = dict(method_terms(Settings(half_width=0.02, max_seconds=20.0)))
    assert "at least 20 ms" in terms["order"]
    assert "at most 2.0 % to each side" in terms["length"]
    assert "20 to 1000 rounds in 8 sittings or more, or 20 s" in terms["length"]


def test_rows_that_left_the_same_nodes_float_share_a_group() -> None:
    simulated = rows()[-1]
    twin = replace(simulated, provider="cpu (simulated)")
    other = replace(simulated, precision="fp16", float_nodes={"a": "because"})
    groups = float_groups(replace(result_to_show(), rows=(simulated, twin, other, rows()[0])))
    assert groups == [
        (
            "int8 tensorrt (simulated), int8 cpu (simulated)",
            [
                ("softmax stays float", "/head/Softmax, /neck/Softmax"),
                ("boxes and scores share no scale", "/neck/Concat"),
            ],
        ),
        ("fp16 tensorrt (simulated)", [("because", "a")]),
    ]
