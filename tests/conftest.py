"""Fixtures every test may use."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import namespaces


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `make test` use two processes: a file stays in one, and so do those that share something."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))


def _group(path: Path) -> str:
    if path.parent.name == "lab":
        return "lab"  # one lab serves them all
    if path.name.startswith("test_conform"):
        return "conform"  # they look for what conformance runs leave behind
    return str(path)


@pytest.fixture
def make_namespace() -> Iterator[Callable[[str], namespaces.Namespace]]:
    """Make network namespaces by label; all are gone after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda label="ns": stack.enter_context(namespaces.namespace(label))
