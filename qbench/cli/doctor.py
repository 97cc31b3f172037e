"""`qbench doctor`: what runs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qbench.cli.options.shared import json_option

if TYPE_CHECKING:
    from qbench.benchmarking.environment import Environment


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what runs here: providers, TensorRT, GPU, CPU."""
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.benchmarking.environment import capture
    from qbench.cli.output.render import print_field, print_json
    from qbench.runtimes.providers import probe_providers
    from qbench.runtimes.tensorrt.flavour import installed_flavours

    environment = capture()
    providers = probe_providers()
    flavours = {flavour.name: flavour.version for flavour in installed_flavours()}
    if as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "environment": environment,
                "providers": providers,
                "tensorrt": flavours,
            }
        )
        return
    _print_machine(environment)
    for name, problem in providers.items():
        print_field("provider", problem or f"{name} loads")
    for name, version in flavours.items():
        print_field("engines", f"{name} {version}")
    if not flavours:
        print_field("engines", "no TensorRT; `uv sync --extra rtx` builds engines without a GPU")


def _print_machine(environment: Environment) -> None:
    from qbench.cli.output.render import print_field, size_text

    print_field("cpu", f"{environment.cpu}, {environment.cores} cores")
    print_field("isa", f"{' '.join(environment.isa or ()) or 'unknown'}")
    for gpu in environment.gpus or ():
        memory = size_text(gpu.memory_bytes) if gpu.memory_bytes else "unknown memory"
        print_field("gpu", f"{gpu.name}, {memory}, driver {gpu.driver}")
    if not environment.gpus:
        print_field("gpu", "none")
    for package, version in environment.versions.items():
        print_field("package", f"{package} {version}")
