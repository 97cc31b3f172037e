"""The `qbench` command: run one command; errors become one line and an exit code."""

import errno
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from qbench.cli.audit import audit
from qbench.cli.bench import bench
from qbench.cli.build_trt import build_trt
from qbench.cli.calibrate import calibrate
from qbench.cli.compare import compare
from qbench.cli.debug import debug
from qbench.cli.demo import demo
from qbench.cli.doctor import doctor
from qbench.cli.engines import engines
from qbench.cli.inspect import inspect
from qbench.cli.options.groups import InOrder
from qbench.cli.quantize import quantize
from qbench.cli.report import report
from qbench.cli.runs import runs
from qbench.cli.tune import tune
from qbench.errors import QbenchError, UnfitError

_INTERRUPTED = 130
_OF_OPENCV = re.compile(r"lib(GL|gthread|glib)\b")


class _Once(logging.Filter):
    """Lets each warning by once: what is read for every model, or twice, warns every time.

    What two stages find out in their own words, they log with the same `matter`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        matter = getattr(record, "matter", record.getMessage())
        if record.levelno < logging.WARNING or matter not in self._seen:
            self._seen.add(matter)
            return True
        return False


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qbench-onnx", prog_name="qbench")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
def qbench(verbose: bool) -> None:
    """Quantize ONNX vision models and build TensorRT engines that can be trusted.

    An FP32 ONNX file and a folder of images go in; a quantized model, an engine and one table of
    accuracy against latency come out.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Once())
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler]
    )
    # It warns of tags of TIFF files that it does not know. It asks when it is loaded, later.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    # They report counts, and inferences that fail without harm.
    for chatty in ("onnx_ir", "faster_coco_eval"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


_START = (demo, doctor, inspect)
_MAKE = (calibrate, quantize, audit, build_trt, engines)
_JUDGE = (bench, runs, compare, report, debug, tune)

for command in (*_START, *_MAKE, *_JUDGE):
    qbench.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; SIGTERM ends it as Ctrl-C does, as long as it runs."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = run(arguments)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are one line on stderr.

    Raises:
        SystemExit: The reader of stdout, such as `head`, has left, which click answers with 1.
    """
    try:
        qbench(args=arguments, prog_name="qbench", standalone_mode=False)
    except QbenchError as error:
        click.echo(f"qbench: error: {error}", err=True)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"qbench: error: {' '.join(error.format_message().split())}", err=True)
        return error.exit_code
    except ImportError as error:
        click.echo(f"qbench: error: {_missing(error)}", err=True)
        return UnfitError.exit_code
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:  # files have errors of their own
            click.echo(
                "qbench: error: cannot write the output: the disk is full; free space", err=True
            )
            return QbenchError.exit_code
        if error.filename is None:
            raise
        # Paths that cannot even be looked at: the name is too long, a folder on the way is locked.
        click.echo(
            f"qbench: error: cannot use {error.filename}: {error.strerror}; check the path",
            err=True,
        )
        return QbenchError.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("qbench: interrupted; no file was left half-written", err=True)
        return _INTERRUPTED
    return 0


def _interrupt(*_: object) -> NoReturn:
    """End as by Ctrl-C, in whose place `timeout`, containers and CI send SIGTERM."""
    raise KeyboardInterrupt


def _missing(error: ImportError) -> str:
    """Say what a package that does not load lacks; OpenCV needs libraries of the system."""
    reason = " ".join(str(error).split())
    if ".so" not in reason:
        return f"a package is missing ({reason}); install qbench-onnx again"
    fix = "`apt-get install libgl1 libglib2.0-0`" if _OF_OPENCV.search(reason) else "its package"
    return f"a library of the system is missing ({reason}); install it: {fix}"
