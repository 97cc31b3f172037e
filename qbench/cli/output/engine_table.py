"""How built engines look in a terminal of 80 columns."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.table import Table

from qbench.cli.output.render import percent, print_field, size_text
from qbench.engines.fitness import Verdict
from qbench.engines.manifest import AS_GIVEN, EngineManifest
from qbench.engines.profiles import format_shape
from qbench.engines.shelf import Entry

_FLAVOURS = {"tensorrt": "TensorRT", "tensorrt_rtx": "RTX"}
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))


def engine_table(found: Iterable[tuple[Entry, Verdict]]) -> Table:
    """Return one line per engine; of those without a manifest, what is wrong with them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("engine", overflow="fold", max_width=26)
    table.add_column("type", overflow="fold", max_width=8)
    table.add_column("built with")
    table.add_column("for", max_width=10)
    for heading in ("size", "age"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    for entry, verdict in found:
        cells = _cells(entry.manifest) if entry.manifest else ("",) * 5
        table.add_row(entry.name, *cells, verdict.state)
    return table


def summary(entry: Entry, verdict: Verdict) -> dict[str, object]:
    """Return what the table says of an engine, as JSON tells it."""
    manifest = entry.manifest
    facts = {
        "precision": manifest.precision if manifest else None,
        "flavour": manifest.flavour if manifest else None,
        "flavour_version": manifest.flavour_version if manifest else None,
        "targets": manifest.gpus if manifest else (),
        "size_bytes": manifest.size_bytes if manifest else None,
        "created": manifest.created if manifest else None,
    }
    return {"name": entry.name, **facts, "state": verdict.state, "reasons": verdict.reasons}


def print_manifest(manifest: EngineManifest) -> None:
    """Print a manifest, one labelled line for each fact."""
    title = _FLAVOURS.get(manifest.flavour, manifest.flavour)
    print_field("engine", f"{manifest.engine} ({size_text(manifest.size_bytes)})")
    print_field("sha256", manifest.sha256)
    print_field("precision", manifest.precision)
    print_field("built with", f"{title} {manifest.flavour_version} in {manifest.seconds:.1f} s")
    print_field("built for", ", ".join(manifest.gpus) or "the GPU at hand")
    print_field("built on", _machine_text(manifest))
    print_field("created", f"{manifest.created:%Y-%m-%d %H:%M} UTC")
    print_field("model", f"{manifest.model.path} (sha256 {manifest.model.sha256[:12]})")
    print_field("compiled", f"{manifest.onnx} (sha256 {manifest.quantized_sha256[:12]})")
    if manifest.table_sha256:
        print_field("calibration", f"table {manifest.table_sha256[:12]}")
    _print_profiles(manifest)
    _print_layers(manifest)
    given = {name: value for name, value in manifest.options.items() if value}
    print_field("options", _pairs(given.items()) or "defaults")
    print_field("log", manifest.log)
    print_field("versions", _pairs(manifest.versions.items()))


def _print_profiles(manifest: EngineManifest) -> None:
    for number, profile in enumerate(manifest.profiles):
        label = "shapes" if len(manifest.profiles) == 1 else f"profile {number}"
        for name, shapes in profile.items():
            texts = dict.fromkeys(format_shape(s) for s in (shapes.min, shapes.opt, shapes.max))
            print_field(label, f"{name} {'/'.join(texts)}")


def _print_layers(manifest: EngineManifest) -> None:
    layers = ", ".join(f"{count} {dtype}" for dtype, count in manifest.layers_by_dtype.items())
    if layers:
        print_field("layers", layers)
    share = manifest.int8_conv_fraction
    if manifest.precision.startswith(("int8", AS_GIVEN)) and share is not None:
        print_field("INT8", f"{percent(share)} of the convolutions")


def _cells(manifest: EngineManifest) -> Sequence[str]:
    title = _FLAVOURS.get(manifest.flavour, manifest.flavour)
    return (
        manifest.precision,
        f"{title} {manifest.flavour_version}",
        " ".join(manifest.gpus),
        size_text(manifest.size_bytes),
        age_text((datetime.now(UTC) - manifest.created).total_seconds()),
    )


def age_text(seconds: float) -> str:
    """Return a time span in its largest unit, as in `3 d`; `now` below a minute."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "now"


def _machine_text(manifest: EngineManifest) -> str:
    machine = manifest.built_on
    gpu = machine.gpu or machine.compute_capability
    if gpu is None:
        return f"{machine.system}, ahead of time"
    driver = f" with driver {machine.driver}" if machine.driver else ""
    return f"{machine.system}, {gpu}{driver}"


def _pairs(items: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {_value_text(value)}" for name, value in items)


def _value_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
