"""What a project folder says in place of options: `qbench.toml`, or its one ONNX file."""

import tomllib
from pathlib import Path

import msgspec

from qbench.errors import UsageError

PROJECT_FILE = Path("qbench.toml")


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `qbench.toml`; each stands in for an option that is not given.

    Attributes:
        model: The ONNX file.
        data: Calibration images.
        recipe: Preprocessing recipe.
        size: Height and width in pixels where the model is dynamic.
    """

    model: str | None = None
    data: str | None = None
    recipe: str | None = None
    size: int | tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check what the types cannot say.

        Raises:
            ValueError: The size is not positive.
        """
        if self.image_size is not None and min(self.image_size) < 1:
            raise ValueError(f"size = {self.size} is not positive, give pixels")

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


def load_project() -> Project:
    """Read `qbench.toml` of the current folder; an absent file is an empty project.

    Raises:
        UsageError: The file is not TOML, or holds an unknown key or a value of the wrong type.
    """
    if not PROJECT_FILE.exists():
        return Project()
    try:
        return msgspec.convert(tomllib.loads(PROJECT_FILE.read_text("utf-8")), Project)
    except (OSError, ValueError) as error:
        keys = ", ".join(Project.__struct_fields__)
        raise UsageError(f"{PROJECT_FILE}: {error}; the keys are {keys}") from error


def find_model(given: Path | None, project: Project) -> Path:
    """Return the model to work on: given, named by the project, or the folder's only ONNX file.

    What `qbench quantize`, `tune` or `debug --reduce` wrote beside it is passed over.

    Raises:
        UsageError: No model is named, and the folder holds none or several.
    """
    if given is not None:
        return given
    if project.model is not None:
        return Path(project.model)
    there = sorted(Path().glob("*.onnx"))
    found = [path for path in there if not _is_made_here(path)] or there
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} .onnx files ({found[0]}, ...)" if found else "no .onnx file"
    raise UsageError(f"this folder holds {what}; name the MODEL, here or in {PROJECT_FILE}")


def _is_made_here(path: Path) -> bool:
    """Return whether a file is named as commands name what they make of a model."""
    if path.stem.endswith(".reduced"):
        return True
    return len(path.suffixes) > 2 and path.suffixes[-3] in {".cpu", ".tensorrt"}
