"""Fixtures every test may use."""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import namespaces
from tests.waiting import PATIENCE

# The same examples in every run: `make test` says something of the code, not of chance. `make fuzz` looks for new ones.
# No deadline: how long an example takes says how busy the machine is.
_SLOW = (HealthCheck.too_slow,)
settings.register_profile("same", max_examples=50, deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("new", deadline=None, max_examples=1000, suppress_health_check=_SLOW)
settings.load_profile("same")


def pytest_sessionstart(session: pytest.Session) -> None:
    """What a killed session left is in nobody's way: once, before the workers begin."""
    if not hasattr(session.config, "workerinput") and not os.geteuid():
        namespaces.sweep()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A limit that a test sets for itself is stretched like everything it waits for."""
    for item in items:
        if limit := item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(limit.args[0] * PATIENCE), append=False)


@pytest.fixture(autouse=True)
def plain_logging() -> None:
    """A test that runs a program's main must not decide where the next test's log lines go."""
    structlog.reset_defaults()


@pytest.fixture
def make_namespace() -> Iterator[Callable[[str], namespaces.Namespace]]:
    """Make network namespaces by label; all are gone after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda label="ns": stack.enter_context(namespaces.namespace(label))
