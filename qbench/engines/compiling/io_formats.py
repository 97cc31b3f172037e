"""Memory layouts of inputs and outputs; their types are the model's."""

from collections.abc import Iterable, Mapping, Sequence

from qbench.engines.compiling.features import Compilation
from qbench.errors import UsageError

FORMATS = {
    "chw": "LINEAR",
    "chw2": "CHW2",
    "chw4": "CHW4",
    "chw16": "CHW16",
    "chw32": "CHW32",
    "hwc": "HWC",
    "hwc8": "HWC8",
    "hwc16": "HWC16",
    "dhwc": "DHWC",
    "dhwc8": "DHWC8",
    "cdhw32": "CDHW32",
}
"""Members of TensorFormat, by the name that users give."""

FLOAT_FORMATS = frozenset({"chw", "chw32", "hwc", "dhwc"})
"""Those that FP32 tensors may have; the others are of 16 and 8 bits (seen on TensorRT for RTX)."""


Formats = Mapping[str, tuple[str, ...]]


def parse_formats(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read memory layouts as a user writes them: `x=hwc`, `x=chw+chw32`, several by commas.

    Raises:
        UsageError: A text is malformed, or names an unknown layout or a tensor twice.
    """
    formats: dict[str, tuple[str, ...]] = {}
    for entry in (part.strip() for text in texts for part in text.split(",")):
        name, is_split, words = entry.rpartition("=")
        chosen = tuple(words.split("+"))
        if not (is_split and name):
            raise UsageError(f"malformed --io-formats {entry!r}; write NAME=hwc or NAME=chw+chw32")
        for word in chosen:
            if word not in FORMATS:
                raise UsageError(
                    f"unknown format {word!r} of {name!r}; choose from {', '.join(FORMATS)}"
                )
        if name in formats:
            raise UsageError(f"tensor {name!r} has two --io-formats; join them: {name}=chw+hwc8")
        formats[name] = chosen
    return formats


def check_format_names(formats: Iterable[str], tensors: Iterable[str]) -> None:
    """Make sure that layouts are given for inputs and outputs only.

    Raises:
        UsageError: A name is none of `tensors`.
    """
    known = list(tensors)
    for name in formats:
        if name not in known:
            raise UsageError(
                f"the model has no input or output {name!r}; it has {', '.join(known)}"
            )


def check_float_formats(formats: Formats, floats: Iterable[str]) -> None:
    """Make sure that FP32 tensors may have one of the layouts that are given for them.

    Raises:
        UsageError: One of `floats` may not.
    """
    for name in floats:
        if name in formats and FLOAT_FORMATS.isdisjoint(formats[name]):
            raise UsageError(
                f"--io-formats {name}={'+'.join(formats[name])} needs 16 bits, and {name!r} is "
                "FP32; add --fp16 --no-keep-io, or choose from "
                f"{', '.join(word for word in FORMATS if word in FLOAT_FORMATS)}"
            )


def format_members(formats: Formats) -> Sequence[str]:
    """Return the members of TensorRT's module that the layouts are."""
    return [f"TensorFormat.{FORMATS[word]}" for words in formats.values() for word in words]


def set_formats(compilation: Compilation, formats: Formats) -> None:
    """Allow the compiler these layouts and no others.

    Raises:
        UsageError: The network has no such input or output.
    """
    network, kinds = compilation.network, compilation.module.TensorFormat
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    by_name = {tensor.name: tensor for tensor in tensors}
    check_format_names(formats, by_name)
    for name, words in formats.items():
        members = {getattr(kinds, FORMATS[word]) for word in words}
        by_name[name].allowed_formats = sum(1 << int(member) for member in members)
