"""Arguments and options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qbench.cli.options.project import Project, find_model, load_project
from qbench.errors import UsageError
from qbench.formatting import share_from_text

if TYPE_CHECKING:
    from qbench.data.choice import DataChoice
    from qbench.runs.gate import Limits

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Arguments = TypeVar("Arguments")
PathType = click.Path(path_type=Path)


class _FileType(click.ParamType[Path]):
    """A file to write. A name that ends in a slash means a folder, which `Path` would forget."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if str(value).endswith(("/", os.sep)):
            self.fail(f"{value!r} is a folder; name a file in it", param, ctx)
        return Path(value)


FileType = _FileType()

TARGETS = ("cpu", "tensorrt")
"""The keys of `placement.targets.TARGETS`, which help must not import."""

METHODS = ("minmax", "percentile", "entropy", "mse")
"""The keys of `calibration.ranges.METHODS`, which help must not import."""

EFFORTS = ("fast", "balanced", "thorough")
"""Those of `quantization.int8.EFFORTS`, which help must not import."""


class SizeType(click.ParamType[tuple[int, int]]):
    """An image size: `640`, or `480x640` for height and width."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (height, width)."""
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(re.fullmatch(r"0*[1-9]\d{0,5}", part) for part in parts):
            self.fail(f"{value!r} is no size; write 640, or 480x640 for height x width", param, ctx)
        return int(parts[0]), int(parts[-1])


class MebibytesType(click.ParamType[int]):
    """An amount of memory in MiB: `512`, `512MiB` or `2GiB`."""

    name = "mebibytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in MiB."""
        found = re.fullmatch(r"0*([1-9]\d{0,8}) *(mib|gib)?", str(value).lower())
        if found is None:
            self.fail(f"{value!r} is no amount of MiB; write 512, 512MiB or 2GiB", param, ctx)
        return int(found[1]) << (10 if found[2] == "gib" else 0)


class ShareType(click.ParamType[float]):
    """A share in percent: `95%`."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share of 1."""
        share = share_from_text(str(value))
        if share is None or share > 1:
            self.fail(f"{value!r} is no share; write percent, as in 95%", param, ctx)
        return share


class LimitsType(click.ParamType["Limits"]):
    """What may be lost: `3%`, or `latency=3%,accuracy=1%`."""

    name = "limits"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Limits:
        """Return the limits."""
        from qbench.runs.gate import parse_limits

        try:
            return parse_limits(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """The options of `data_options`."""

    data: Path | None
    recipe: str | None
    size: tuple[int, int] | None
    limit: int | None
    project: Project = field(default_factory=load_project)

    @property
    def read(self) -> tuple[Path | None, ...]:
        """What is read of the files that the command line names."""
        return self.data, Path(self.recipe) if self.recipe else None

    def choice(self, default: str | None = None) -> DataChoice | None:
        """Return which images to read and how, completed from `qbench.toml`; None for none.

        Args:
            default: Read where --data is not given.

        Raises:
            UsageError: How to read images is said, but not which.
        """
        from qbench.data.choice import DataChoice

        data = self.data or (Path(default) if default else None)
        if data is None:
            if self.recipe or self.limit:
                what = "--recipe" if self.recipe else "--limit"
                raise UsageError(f"{what} says how to read images, but not which; add --data")
            return None
        recipe = self.recipe or self.project.recipe
        return DataChoice(data, recipe, self.size or self.project.image_size, self.limit)


@dataclass(frozen=True, kw_only=True)
class ModelArguments(DataArguments):
    """The options of `data_options`, and MODEL."""

    model: Path | None

    def path(self) -> Path:
        """Return the model's path, given or plain from the folder.

        Raises:
            UsageError: The folder does not make it plain.
        """
        return find_model(self.model, self.project)


def packed(kind: Callable[..., Arguments]) -> Callable[[Callable[[Arguments], None]], Any]:
    """Let click's many keyword arguments reach a command as one value of `kind`."""

    def decorate(command: Callable[[Arguments], None]) -> Callable[..., None]:
        @wraps(command)
        def call(**values: Any) -> None:
            command(kind(**values))

        return call

    return decorate


def exclusive_flags(
    name: str, flags: dict[str, str], default: str | None = None
) -> Callable[[Decorated], Decorated]:
    """Add a flag --WORD for each word and its help; the argument `name` is the one that is given.

    Raises:
        UsageError: When the command line is read: two of them are given.
    """

    def take(context: click.Context, parameter: click.Parameter, is_given: bool) -> None:
        # click hands over what is given first, and then what is not.
        word = parameter.opts[0].removeprefix("--") if is_given else default
        taken = context.params.setdefault(name, word)
        if is_given and taken != word:
            raise UsageError(f"--{taken} and --{word} exclude each other; drop one")

    def decorate(command: Decorated) -> Decorated:
        for word, text in reversed(flags.items()):
            flag = click.option(
                f"--{word}", is_flag=True, expose_value=False, callback=take, help=text
            )
            command = flag(command)
        return command

    return decorate


def with_options(command: Decorated, *options: Callable[[Decorated], Decorated]) -> Decorated:
    """Add options, which help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def model_argument(command: Decorated) -> Decorated:
    """Add MODEL, which may be left out where the folder makes it plain."""
    return click.argument("model", type=PathType, required=False)(command)


def data_options(command: Decorated) -> Decorated:
    """Add what says which images are read, and how."""
    size_help = "Image size where the model is dynamic: 640 or HxW."
    return with_options(
        command,
        click.option("--data", type=PathType, help="Folder of images, or .npz arrays."),
        click.option("--recipe", help="Preprocessing: a name or a .toml file (see calibration/)."),
        click.option("--size", type=SizeType(), help=size_help),
        click.option("--limit", type=click.IntRange(min=1), help="Use N images, evenly spaced."),
    )


def target_option(command: Decorated) -> Decorated:
    """Add --target, which must be given."""
    return click.option(
        "--target", type=click.Choice(TARGETS), required=True, help="Where it shall run."
    )(command)


def judging_options(command: Decorated) -> Decorated:
    """Add what says how images are judged, besides the metric."""
    return with_options(
        command,
        click.option("--labels", type=PathType, help="Labels of the images; see above."),
        click.option("--decoder", default="auto", show_default=True, help="How boxes are read."),
    )


def limits_option(command: Decorated) -> Decorated:
    """Add --fail-on."""
    return click.option(
        "--fail-on",
        "limits",
        type=LimitsType(),
        metavar="LIMITS",
        help="Exit code 3 beyond 3%, or latency=3%,accuracy=1%.",
    )(command)


def table_option(command: Decorated) -> Decorated:
    """Add --table."""
    text = "Calibration table; found by the model's hash if left out."
    return click.option("--table", type=PathType, help=text)(command)


def exclude_option(command: Decorated) -> Decorated:
    """Add --exclude."""
    text = "Nodes that stay float, as in '/head/*'."
    return click.option("--exclude", multiple=True, metavar="PATTERN", help=text)(command)


def effort_option(command: Decorated) -> Decorated:
    """Add --effort."""
    return click.option(
        "--effort",
        type=click.Choice(EFFORTS),
        help="How long to search for better scales; fast only leaves float what ruins the output."
        "  [default: balanced]",
    )(command)


def json_option(command: Decorated) -> Decorated:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)
