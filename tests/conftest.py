import signal

import pytest
from hypothesis import settings

# The same examples on every run, however slow the machine; compilation counts as the first one.
settings.register_profile("qbench", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("qbench")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regen", action="store_true", help="rewrite the goldens; review the diff")


@pytest.fixture
def regen(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--regen"))


def pytest_configure() -> None:
    """Let Ctrl-C interrupt, here and in children, even where a shell runs the tests behind `&`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
