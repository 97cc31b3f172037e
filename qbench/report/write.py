"""`qbench.write_report`: a run as one HTML file that can be mailed."""

from pathlib import Path

from qbench.artifacts import write_bytes
from qbench.benchmarking.result import RunResult
from qbench.errors import UnfitError
from qbench.report.contents import Contents
from qbench.report.layers_file import load_layers
from qbench.runs.compare import find_run
from qbench.runs.run import Run
from qbench.runs.store import Store


def write_report(
    run: Run | RunResult | Path | str,
    output: Path | str = "report.html",
    *,
    debug: Path | str | None = None,
) -> Path:
    """Write a benchmark as one HTML page that needs no network and no other file.

    Args:
        run: A run, what `qbench.benchmark` returned, the JSON file of `qbench bench --json`, or the
            id of a run that is kept, `latest` among them.
        output: Where to write the page.
        debug: The JSON file of `qbench debug --json`, for the chart of layers.

    Returns:
        The path of the page.

    Raises:
        DataError: A file cannot be read.
        UsageError: No run, or more than one, has that id.
        StorageError: The page cannot be written.
        UnfitError: The `report` extra is not installed.
    """
    contents = read_contents(run, debug)
    write_page(contents, Path(output))
    return Path(output)


def read_contents(run: Run | RunResult | Path | str, debug: Path | str | None = None) -> Contents:
    """Return what a report shows; arguments and errors are those of `write_report`."""
    if isinstance(run, RunResult):
        run = Run("not kept", run)
    found = run if isinstance(run, Run) else find_run(str(run), Store())
    return Contents(found, load_layers(Path(debug)) if debug else ())


def write_page(contents: Contents, output: Path) -> None:
    """Write the page.

    Raises:
        StorageError: It cannot be written.
        UnfitError: The `report` extra is not installed.
    """
    check_extra()
    from qbench.report.page import page_html

    write_bytes(output, page_html(contents).encode())


def write_charts(
    contents: Contents, *, svg: Path | None = None, png: Path | None = None
) -> list[Path]:
    """Write every chart that has something to show as an image; return the files.

    Args:
        contents: What to show.
        svg: Folder of the SVG files; None writes none.
        png: Folder of the PNG files, in double resolution; None writes none.

    Raises:
        StorageError: A folder cannot be written.
        UnfitError: The `report` extra is not installed.
    """
    check_extra()
    from qbench.report.images import write_pngs, write_svgs

    written = write_svgs(contents, svg) if svg else []
    return written + (write_pngs(contents, png) if png else [])


def check_extra() -> None:
    """Make sure that charts can be drawn.

    Raises:
        UnfitError: The `report` extra is not installed.
    """
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise UnfitError(
            f"charts need {error.name}, which is not installed; install qbench-onnx[report]"
        ) from error
    del altair, vl_convert
