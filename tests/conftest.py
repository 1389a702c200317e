"""Fixtures every test may use."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import structlog

from tests import namespaces


@pytest.fixture(autouse=True)
def plain_logging() -> None:
    """A test that runs a program's main must not decide where the next test's log lines go."""
    structlog.reset_defaults()


@pytest.fixture
def make_namespace() -> Iterator[Callable[[str], namespaces.Namespace]]:
    """Make network namespaces by label; all are gone after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda label="ns": stack.enter_context(namespaces.namespace(label))
