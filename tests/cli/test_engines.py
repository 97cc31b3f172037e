"""`qbench engines`: its tables, JSON and exit codes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from manifests import MANIFEST, put
from rich.console import Console

from qbench.cli.engines import engines as group
from qbench.cli.output.engine_table import age_text, engine_table
from qbench.engines import machine as machine_module
from qbench.engines.fitness import Verdict
from qbench.engines.machine import Machine
from qbench.engines.shelf import entry
from qbench.runtimes.tensorrt import flavour as flavour_module
from qbench.runtimes.tensorrt.flavour import Flavour

from .conftest import Qbench, refused

HERE = Machine("Linux x86_64", "RTX 4090", "sm89", "580.65.06")


@pytest.fixture(autouse=True)
def workbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: engines/ with a good engine, on a machine with a GPU."""
    monkeypatch.chdir(tmp_path)
    pretend(monkeypatch, HERE)
    put(tmp_path / "engines", "good", created=datetime.now(UTC) - timedelta(days=3, hours=1))
    return tmp_path


def pretend(monkeypatch: pytest.MonkeyPatch, machine: Machine, *flavours: Flavour) -> None:
    found = flavours or (Flavour("tensorrt_rtx", "1.7"),)
    monkeypatch.setattr(machine_module, "this_machine", lambda: machine)
    monkeypatch.setattr(flavour_module, "installed_flavours", lambda: found)


def listed() -> set[str]:
    return {path.name for path in Path("engines").iterdir()}


def test_list(qbench: Qbench) -> None:
    put(Path("engines"), "other", targets=("sm80", "sm86", "sm120"))
    Path("engines/lone.engine").write_bytes(b"x")
    outcome = qbench("engines", "list")
    heading, *rows = [line.split() for line in outcome.out.splitlines()]
    assert heading == ["engine", "type", "built", "with", "for", "size", "age", "here"]
    assert rows[0] == ["good", "int8", "RTX", "1.7", "sm86", "sm89", "11", "B", "3", "d", "fits"]
    assert rows[1] == ["lone", "broken"]
    assert rows[2][-1] == "unfit"
    assert (outcome.code, outcome.err) == (0, "")


def test_the_table_fits_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-model-with-a-name-of-the-usual-length-for-detectors.int8-implicit"
    put(
        tmp_path / "engines",
        name,
        flavour="tensorrt",
        flavour_version="10.16.1.11",
        precision="int8-implicit",
        targets=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
        size_bytes=1023 << 20,
    )
    found = entry(tmp_path / "engines", name)
    Console(width=80).print(engine_table([(found, Verdict("unknown"))]))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "10.16.1.11" in text


def test_list_as_json(qbench: Qbench) -> None:
    Path("engines/lone.engine").write_bytes(b"x")
    document = qbench("engines", "list", "--json").json
    good, lone = document["engines"]
    assert document["schema_version"] == 1
    assert datetime.fromisoformat(good.pop("created"))
    assert good == {
        "name": "good",
        "precision": "int8",
        "flavour": "tensorrt_rtx",
        "flavour_version": "1.7",
        "targets": ["sm86", "sm89"],
        "size_bytes": 11,
        "state": "fits",
        "reasons": [],
    }
    assert (lone["name"], lone["state"], lone["precision"]) == ("lone", "broken", None)


def test_an_empty_folder(qbench: Qbench) -> None:
    Path("none").mkdir()
    assert qbench("engines", "list", "--folder", "none").out == (
        "no engines in none; build one with `qbench build-trt MODEL --int8`\n"
    )
    assert qbench("engines", "list", "--folder", "none", "--json").json["engines"] == []
    assert qbench("engines", "prune", "--folder", "none").out == "nothing to delete\n"
    assert "no engines in none; build" in refused(qbench("engines", "verify", "--folder", "none"))


@pytest.mark.parametrize("command", ["list", "verify", "prune"])
def test_a_missing_folder(qbench: Qbench, command: str) -> None:
    message = refused(qbench("engines", command, "--folder", "nowhere"))
    assert "no folder nowhere; name one with --folder" in message


def test_show(qbench: Qbench) -> None:
    outcome = qbench("engines", "show", "good")
    lines = outcome.out.splitlines()
    assert lines[0] == "engine      good.engine (11 B)"
    for line in (
        "built with  RTX 1.7 in 1.5 s",
        "built for   sm86, sm89",
        "built on    Linux x86_64, ahead of time",
        "shapes      x 1x3x8x8/2x3x8x8/4x3x8x8",
        "layers      3 Int8, 4 Float",
        "INT8        100.0 % of the convolutions",
        "options     builder_level 3, target_gpus sm86 sm89",
    ):
        assert line in lines
    assert max(map(len, lines)) <= 80


def test_show_what_was_built_at_hand_for_several_shapes(qbench: Qbench) -> None:
    put(
        Path("engines"),
        "two",
        targets=(),
        built_on=HERE,
        precision="fp16",
        profiles=MANIFEST.profiles * 2,
        table_sha256="12" * 32,
        options={},
    )
    text = qbench("engines", "show", "engines/two.engine").out
    assert "built for   sm89\nbuilt on    Linux x86_64, RTX 4090 with driver 580.65.06\n" in text
    assert "profile 0   x 1x3x8x8/" in text
    assert "profile 1   x 1x3x8x8/" in text
    assert "calibration table 121212121212\n" in text
    assert "options     defaults\n" in text
    assert "INT8" not in text


def test_show_as_json(qbench: Qbench) -> None:
    document = qbench("engines", "show", "good", "--json").json
    assert (document["engine"], document["schema_version"]) == ("good.engine", 2)


def test_show_without_a_manifest(qbench: Qbench) -> None:
    Path("engines/lone.engine").write_bytes(b"x")
    assert "no manifest engines/lone.json" in refused(qbench("engines", "show", "lone"))
    assert "no engine 'gone' in engines; there is good, lone" in refused(
        qbench("engines", "show", "gone")
    )


def test_verify(qbench: Qbench) -> None:
    outcome = qbench("engines", "verify")
    assert (outcome.code, outcome.out, outcome.err) == (0, "fits        good\n", "")
    assert qbench("engines", "verify", "good", "--json").json == {
        "schema_version": 1,
        "engines": [{"name": "good", "state": "fits", "reasons": [], "notes": []}],
    }


def test_verify_an_engine_for_another_gpu(qbench: Qbench) -> None:
    put(Path("engines"), "other", targets=("sm120",))
    outcome = qbench("engines", "verify")
    assert outcome.code == 1
    assert outcome.out == (
        "fits        good\n"
        "unfit       other: it was built for sm120, the GPU here is sm89; build it for\n"
        "            sm89\n"
    )
    assert outcome.err == (
        "qbench: error: engine other is unfit: it was built for sm120, the GPU here is sm89; "
        "build it for sm89\n"
    )
    assert qbench("engines", "verify", "good").code == 0
    assert qbench("engines", "verify", "other", "--json").code == 1


def test_verify_says_what_does_not_keep_it_from_running(
    qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path("engines"), "two", targets=(), built_on=HERE)
    pretend(monkeypatch, Machine("Linux x86_64", "RTX 4060", "sm89", "570.1"))
    text = qbench("engines", "verify", "two").out
    assert "  note      it was tuned on RTX 4090, and may be slower on RTX 4060\n" in text
    assert "  note      driver 570.1 is older than 580.65.06" in text


@pytest.mark.parametrize(
    ("machine", "flavours"),
    [(HERE.without_gpu(), ()), (HERE, (Flavour("tensorrt", "10.3.0"),))],
)
def test_verify_where_nothing_can_tell(
    qbench: Qbench,
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
    flavours: tuple[Flavour, ...],
) -> None:
    pretend(monkeypatch, machine, *flavours)
    outcome = qbench("engines", "verify")
    assert outcome.code == 5
    assert outcome.out.startswith("unknown     good: ")
    assert outcome.err.startswith("qbench: error: whether engine good fits is unknown: ")


def test_prune_deletes_nothing_unasked(qbench: Qbench) -> None:
    put(Path("engines"), "other", targets=("sm120",))
    Path("engines/fast.toml").write_text("[build]")
    before = listed()
    outcome = qbench("engines", "prune")
    assert listed() == before
    assert outcome.out.endswith("--yes deletes them\n")
    assert "  files     other.engine, other.onnx, other.log, other.json\n" in outcome.out
    document = qbench("engines", "prune", "--json").json
    assert (document["deleted"], listed()) == (False, before)
    assert document["engines"][0]["files"] == [
        "other.engine",
        "other.onnx",
        "other.log",
        "other.json",
    ]


def test_prune(qbench: Qbench) -> None:
    put(Path("engines"), "other", targets=("sm120",))
    Path("engines/fast.toml").write_text("[build]")
    Path("engines/lone.engine").write_bytes(b"x")
    outcome = qbench("engines", "prune", "--yes")
    assert outcome.code == 0
    assert "  files     they stay: no manifest says which are its own\n" in outcome.out
    assert "\ndeleted 4 files (" in outcome.out
    assert listed() == {
        "good.engine",
        "good.onnx",
        "good.log",
        "good.json",
        "fast.toml",
        "lone.engine",
    }
    assert qbench("engines", "prune", "--yes", "--json").json["deleted"] is True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "now"), (-5, "now"), (60, "1 min"), (90, "1 min"), (7300, "2 h"), (86400, "1 d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_commands_stand_from_looking_to_deleting(qbench: Qbench) -> None:
    text = qbench("engines", "--help").out
    places = [text.index(f"\n  {name} ") for name in ("list", "show", "verify", "prune")]
    assert places == sorted(places)
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("command", group.commands)
def test_help_fits_80_columns(qbench: Qbench, command: str) -> None:
    outcome = qbench("engines", command, "--help")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert all(p.param_type_name == "argument" or p.help for p in group.commands[command].params)  # type: ignore[attr-defined]
