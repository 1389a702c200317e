"""The agent's words to the API, and its silence.

Address plan: this node is one, 192.0.2.1; a second machine under its name is 192.0.2.66.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
import structlog

from kube.errors import AlreadyExists, NotFound
from kube.objects import Node, NodeAddress
from node.registrar import CONTEST_SECONDS, Registrar
from node.registration import Claim, Identity, Readiness, status_patch

ONE = Identity(name="one")
CLAIM = Claim(addresses=(ip_address("192.0.2.1"),), readiness=Readiness(ready=True, message="ready"))


class Api:
    """One Node, as the agent's watch sees it; a new resourceVersion for every change."""

    def __init__(self) -> None:
        self.node: Node | None = None
        self.version = 0
        self.said: list[str] = []
        self.behind = False
        self.closed = 0
        self.now = 0.0

    def open_client(self) -> "Api":
        return self

    def close(self) -> None:
        self.closed += 1

    def create(self, _resource: object, body: Mapping[str, Any]) -> None:
        self.said.append("create")
        if self.behind:
            raise AlreadyExists("one is there")
        self._set(msgspec.convert(body, Node))

    def patch(self, _resource: object, _name: str, patch: dict[str, Any], **_options: str) -> None:
        self.said.append("patch")
        if self.node is None:
            raise NotFound("one is gone")
        if not self.behind:
            merged = msgspec.to_builtins(self.node)
            said = {key: [each for each in value if "$patch" not in each] for key, value in patch["status"].items()}
            merged["status"] = merged.get("status", {}) | said
            self._set(msgspec.convert(merged, Node))

    def overwrite(self, address: str) -> None:
        listed = (NodeAddress(type="InternalIP", address=address),)
        self._set(
            msgspec.structs.replace(self.node, status=msgspec.structs.replace(self.node.status, addresses=listed))
        )

    def _set(self, node: Node) -> None:
        self.version += 1
        metadata = msgspec.structs.replace(node.metadata, resource_version=str(self.version))
        self.node = msgspec.structs.replace(node, metadata=metadata)

    def registrar(self) -> Registrar:
        return Registrar(self.open_client, ONE, lambda: self.node, clock=lambda: self.now)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def registered(api: Api) -> Callable[[], None]:
    """Rounds of an agent whose node is registered."""
    registrar = api.registrar()
    registrar.sync(CLAIM)
    registrar.sync(CLAIM)
    api.said.clear()
    return lambda: registrar.sync(CLAIM)


def says_the_claim(api: Api) -> bool:
    return status_patch(api.node, ONE, CLAIM, datetime.now(UTC)) is None


def test_an_unknown_node_is_created_with_all_there_is_to_say(api: Api) -> None:
    api.registrar().sync(CLAIM)
    assert (api.said, says_the_claim(api)) == (["create"], True)


def test_a_node_that_says_the_claim_is_left_alone(api: Api, registered) -> None:
    registered()
    assert api.said == []


def test_a_node_that_exists_before_the_watch_knows_is_no_failure(api: Api) -> None:
    api.behind = True
    api.registrar().sync(CLAIM)
    assert api.said == ["create"]


def test_what_was_said_is_not_repeated_until_the_watch_has_it(api: Api, registered) -> None:
    api.overwrite("192.0.2.66")
    api.behind = True
    registered()
    registered()
    assert api.said == ["patch"]


def test_a_node_deleted_meanwhile_is_no_failure(api: Api) -> None:
    registrar = api.registrar()
    registrar.sync(CLAIM)
    api.overwrite("192.0.2.66")
    known, api.node = api.node, None
    Registrar(api.open_client, ONE, lambda: known).sync(CLAIM)
    assert api.said == ["create", "patch"]


def test_an_overwritten_address_is_said_again_and_warned_of(api: Api, registered) -> None:
    api.overwrite("192.0.2.66")
    with structlog.testing.capture_logs() as logs:
        registered()
    assert says_the_claim(api)
    assert [(line["ours"], line["theirs"]) for line in logs if "theirs" in line] == [("192.0.2.1", "192.0.2.66")]


def test_two_machines_under_one_name_do_not_fight_without_pause(api: Api, registered) -> None:
    for _ in range(100):
        api.overwrite("192.0.2.66")
        registered()
    assert api.said == ["patch"]
    api.now += CONTEST_SECONDS
    registered()
    assert api.said == ["patch", "patch"]


def test_a_move_of_our_own_is_no_contest(api: Api) -> None:
    registrar = api.registrar()
    for number in range(1, 5):
        registrar.sync(Claim(addresses=(ip_address(f"192.0.2.{number}"),), readiness=CLAIM.readiness))
    assert api.said == ["create", "patch", "patch", "patch"]


def test_new_connections_close_the_old_ones(api: Api) -> None:
    api.registrar().reconnect()
    assert api.closed == 1
