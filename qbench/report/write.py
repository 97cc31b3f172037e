"""`qbench.write_report`: a run as one HTML file that can be mailed."""

from pathlib import Path

from qbench.artifacts import write_bytes
from qbench.report.contents import Contents
from qbench.report.extra import check_extra
from qbench.report.sources import Layers, Source, read_contents


def write_report(
    run: Source,
    output: Path | str = "report.html",
    *,
    debug: Layers = None,
) -> Path:
    """Write a benchmark as one HTML page that needs no network and no other file.

    Args:
        run: A run, what `qbench.benchmark` returned, the JSON file of `qbench bench --json`, or the
            id of a run that is kept, `latest` among them.
        output: Where to write the page.
        debug: What `qbench.compare_layers` returned, or the JSON file of `qbench debug --json`, for
            the chart of layers.

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
