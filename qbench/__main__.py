"""The `qbench` command and `python -m qbench`: loads the command line, and runs it."""

import sys


def main() -> None:
    """Run the command line and exit; Ctrl-C while it loads ends it as any later one does."""
    try:
        from qbench.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("qbench: interrupted; no file was left half-written\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
