"""`podwire affinity` on a node: it says what the kernel remembers, and what it lets go is placed anew.

The node, its pods and the clients are those of tests/service_node.py.
"""

import json
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from cli.affinity import affinity
from tests import service_node
from tests.address_plan import IPV4
from tests.namespaces import Namespace
from tests.service_node import OUTSIDE, PODS, ServiceNode
from tests.services import endpoint_slice, service

WEB, TWO = IPV4.service_ip(10), IPV4.service_ip(11)


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node() as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    for name, cluster_ip in (("web", WEB), ("two", TWO)):
        shared.put(service(name, cluster_ip, affinity=600), endpoint_slice(name, [PODS["a"], PODS["b"]]))
    yield shared
    shared.clear()


def invoke(node: Namespace, *arguments: str) -> Result:
    return node.call(lambda: CliRunner().invoke(affinity, arguments, prog_name="podwire affinity"))


def run(node: ServiceNode, *arguments: str) -> str:
    done = invoke(node.node, *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_clients_are_listed_with_their_service_port_endpoint_and_time(node):
    name = node.ask("client", WEB).split()[0]
    (kept,) = json.loads(run(node, "ls", "--json"))

    assert kept.pop("secondsLeft") == pytest.approx(600, abs=60)
    assert kept == {"servicePort": "default/web:http", "client": PODS["client"], "endpoint": f"{PODS[name]}:8080"}
    assert "default/web:http" in run(node, "ls")


def test_a_client_that_is_let_go_takes_its_turn(node):
    first = node.ask("client", WEB).split()[0]
    node.ask("client", TWO)
    node.ask("outside", WEB)
    assert run(node, "rm", "--service", "web", "--client", PODS["client"]) == "1 let go\n"
    left = {(kept["servicePort"], kept["client"]) for kept in json.loads(run(node, "ls", "--json"))}

    assert left == {("default/two:http", PODS["client"]), ("default/web:http", OUTSIDE)}
    assert node.ask("client", WEB).split()[0] == first  # two endpoints, and another client had the turn between


def test_all_clients_are_let_go_at_once(node):
    for client in ("client", "a", "outside"):
        node.ask(client, WEB)

    assert run(node, "rm", "--all") == "3 let go\n"
    assert run(node, "ls") == "no client is kept\n"


def test_letting_go_needs_to_be_told_whom(node):
    for arguments, complaint in ((["rm"], "name a --service or a --client"), (["ls", "--client", "web"], "IP address")):
        refused = invoke(node.node, *arguments)
        assert refused.exit_code == 2
        assert complaint in refused.output


def test_where_no_proxy_ran_nobody_is_kept(make_namespace):
    bare = make_namespace("bare")

    assert invoke(bare, "ls").stdout == "no client is kept\n"
    assert invoke(bare, "rm", "--all").stdout == "0 let go\n"


def test_it_is_a_command_of_podwire(node):
    node.ask("client", WEB)

    assert PODS["client"] in node.node.run(sys.executable, "-m", "cli", "affinity", "ls")
