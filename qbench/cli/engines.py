"""`qbench engines`: what lies in a folder of engines, what fits here, and what can go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.groups import InOrder
from qbench.cli.options.shared import Decorated, PathType, json_option

if TYPE_CHECKING:
    from qbench.engines.fitness import Verdict
    from qbench.engines.shelf import Discarded, Entry


@click.group(cls=InOrder)
def engines() -> None:
    """List, show, verify and prune built engines."""


def _folder_option(command: Decorated) -> Decorated:
    return click.option(
        "--folder", type=PathType, default=Path("engines"), show_default=True, help="Of engines."
    )(command)


@engines.command("list")
@_folder_option
@json_option
def list_engines(folder: Path, as_json: bool) -> None:
    """List engines, and say whether they fit here.

    Only the sizes of their files are looked at; verify reads them.
    """
    from qbench.cli.output.engine_table import engine_table, summary
    from qbench.cli.output.render import print_table
    from qbench.engines.shelf import entries

    found = _judged(entries(folder), hashes=False)
    if as_json:
        _print_json(engines=[summary(entry, verdict) for entry, verdict in found])
    elif found:
        print_table(engine_table(found))
    else:
        click.echo(_nothing(folder))


@engines.command()
@click.argument("name")
@_folder_option
@json_option
def show(name: str, folder: Path, as_json: bool) -> None:
    """Show what the manifest of engine NAME says."""
    from qbench.cli.output.engine_table import print_manifest
    from qbench.cli.output.render import print_json
    from qbench.engines.shelf import entry
    from qbench.errors import EngineError

    found = entry(folder, name)
    if found.manifest is None:
        raise EngineError(found.problem)
    if as_json:
        print_json(found.manifest)
    else:
        print_manifest(found.manifest)


@engines.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_folder_option
@json_option
def verify(names: tuple[str, ...], folder: Path, as_json: bool) -> None:
    """Say before loading whether engines can be used here.

    Looks at all without a NAME. Checks that files are whole and belong together, and that GPU,
    driver, operating system and TensorRT fit. Exit code 1 where an engine cannot be used; 5 where
    nothing here can tell, for want of a GPU or of the TensorRT that built it.
    """
    from qbench.cli.output.render import print_field
    from qbench.engines.shelf import check_verdicts, entries, entry
    from qbench.errors import EngineError

    wanted = [entry(folder, name) for name in names] if names else entries(folder)
    found = _judged(wanted, hashes=True)
    if not found:
        raise EngineError(_nothing(folder))
    if as_json:
        _print_json(engines=[_state(entry.name, verdict) for entry, verdict in found])
    else:
        for judged, verdict in found:
            print_field(verdict.state, ": ".join((judged.name, *verdict.reasons)))
            for note in verdict.notes:
                print_field("  note", note)
    check_verdicts((entry.name, verdict) for entry, verdict in found)


@engines.command()
@_folder_option
@click.option("--yes", is_flag=True, help="Delete; else only say what would be deleted.")
@json_option
def prune(folder: Path, yes: bool, as_json: bool) -> None:
    """Delete engines that are broken or do not fit here.

    Without --yes, only says what would be deleted: the engine and all that its manifest names.
    Files that no manifest names stay, and so do engines of which nothing here can tell whether they
    fit.
    """
    from qbench.engines.machine import this_machine
    from qbench.engines.shelf import discarded, remove
    from qbench.runtimes.tensorrt.flavour import installed_flavours

    found = discarded(folder, this_machine(), installed_flavours())
    if yes:
        remove(folder, found)
    if as_json:
        _print_json(deleted=yes, engines=[_state(d.name, d.verdict, files=d.files) for d in found])
    else:
        _print_discarded(found, yes)


def _print_discarded(found: Iterable[Discarded], is_done: bool) -> None:
    from qbench.cli.output.render import counted, print_field, size_text

    count, size = 0, 0
    for engine in found:
        print_field(engine.verdict.state, f"{engine.name}: {engine.verdict.reasons[0]}")
        names = ", ".join(engine.files)
        print_field("  files", names or "they stay: no manifest says which are its own")
        count, size = count + len(engine.files), size + engine.size_bytes
    files = counted(count, "file")
    if not count:
        click.echo("nothing to delete")
    elif is_done:
        click.echo(f"deleted {files} ({size_text(size)})")
    else:
        click.echo(f"would delete {files} ({size_text(size)}); --yes deletes them")


def _judged(entries: Iterable[Entry], *, hashes: bool) -> list[tuple[Entry, Verdict]]:
    from qbench.engines.machine import this_machine
    from qbench.engines.shelf import verify
    from qbench.runtimes.tensorrt.flavour import installed_flavours

    machine, flavours = this_machine(), installed_flavours()
    return [(entry, verify(entry, machine, flavours, hashes=hashes)) for entry in entries]


def _state(name: str, verdict: Verdict, **more: object) -> dict[str, object]:
    from msgspec import to_builtins

    return {"name": name, **to_builtins(verdict), **more}


def _print_json(**document: object) -> None:
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.cli.output.render import print_json

    print_json({"schema_version": SCHEMA_VERSION, **document})


def _nothing(folder: Path) -> str:
    return f"no engines in {folder}; build one with `qbench build-trt MODEL --int8`"
