"""One lab of three nodes for the whole session; each test gets a Kubernetes namespace of its own in it."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cluster import Lab, destroy_abandoned
from tests.waiting import eventually


@pytest.hookimpl(tryfirst=True)  # all limits are stretched afterwards
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test here may have a whole lab to make first."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session", autouse=True)
def no_others() -> None:
    """A lab that a killed session left running takes the time of this one."""
    destroy_abandoned()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    made = Lab("s")
    try:
        made.up("--nodes", "3")
        yield made
    finally:
        made.destroy()
    assert made.namespaces() == []
    assert made.pids() == []
    assert not made.root.exists()


@pytest.fixture
def space(lab: Lab) -> Iterator[str]:
    """A Kubernetes namespace; everything in it is gone after the test."""
    name = f"t-{secrets.token_hex(4)}"
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    lab.kubectl("delete", "namespace", name, "--wait=false")
    eventually(lambda: not lab.get("pods", "--namespace", name)["items"], within=60, every=0.1)


@pytest.fixture
def make_lab() -> Iterator:
    """Make further labs; they are taken down after the test."""
    with contextlib.ExitStack() as stack:

        def make(label: str) -> Lab:
            made = Lab(label)
            stack.callback(made.destroy)
            return made

        yield make
