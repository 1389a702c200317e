"""The agent as a process, against podwire-api: what it sets up, repairs, keeps through crashes, and says.

Address plan: API 192.0.2.254, nodes n1 192.0.2.1 and so on, all on one link.
"""

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube import resources
from tests import namespaces
from tests.cni_checker import ports
from tests.node_cluster import Agent, ClusterOfAgents, cluster
from tests.waiting import eventually

# Who hears of a change repairs it at once; who does not, after 30 s, when everything is looked at anyway.
AT_ONCE = 15.0
# Pods of no other test have such addresses: a lease stays as long as its address stands in a namespace of the number it was
# given to, and the kernel gives the number of a namespace that is gone to whoever makes the next one.
CLUSTER_CIDR = ("--cluster-cidr", "10.17.0.0/16")
PROBES = {"first": "203.0.113.0/25", "last": "203.0.113.128/25"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfAgents]:
    with cluster(tmp_path_factory.mktemp("shared"), *CLUSTER_CIDR) as made:
        two_nodes(made)
        yield made


@pytest.fixture
def made(shared: ClusterOfAgents) -> ClusterOfAgents:
    """Two nodes that many tests use in turn; each leaves them as it found them."""
    eventually(lambda: is_settled(shared), within=120)
    return shared


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ClusterOfAgents]:
    """A cluster of two nodes for tests that harm it."""
    with cluster(tmp_path) as made:
        two_nodes(made)
        yield made


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> tuple[Agent, Agent]:
    """The agents of whichever cluster the test uses."""
    made = request.getfixturevalue("fresh" if "fresh" in request.fixturenames else "made")
    return made.agents["n1"], made.agents["n2"]


def two_nodes(made: ClusterOfAgents) -> None:
    made.add("n1", "192.0.2.1")
    made.add("n2", "192.0.2.2")
    eventually(lambda: is_settled(made), within=120)


def is_settled(made: ClusterOfAgents) -> bool:
    one, two = made.agents["n1"], made.agents["n2"]
    return made.is_ready("n1") and made.is_ready("n2") and is_set_up(made, one, two) and is_set_up(made, two, one)


def is_set_up(made: ClusterOfAgents, agent: Agent, other: Agent) -> bool:
    """Whether the agent has done all there is to do in a cluster of the two."""
    return (
        agent.routes() == {route_to(made, other)}
        and address_of(made, other) in ruleset(agent)
        and forwards(agent)
        and made.pod_cidr(agent.name) in agent.conflist.read_text()
    )


def ruleset(agent: Agent) -> str:
    return agent.namespace.run("nft", "list", "ruleset")


def forwards(agent: Agent) -> bool:
    return agent.namespace.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"


def route_to(made: ClusterOfAgents, agent: Agent) -> str:
    return f"{made.pod_cidr(agent.name)} via {address_of(made, agent)} dev eth0"


def address_of(made: ClusterOfAgents, agent: Agent) -> str:
    addresses = made.node(agent.name)["status"]["addresses"]
    return next(each["address"] for each in addresses if each["type"] == "InternalIP")


@contextlib.contextmanager
def another_node(made: ClusterOfAgents, name: str, address: str) -> Iterator[str]:
    """A node without an agent; gone afterwards. Yields its podCIDR."""
    create_node(made, name, address)
    try:
        yield made.pod_cidr(name)
    finally:
        made.ask(lambda client: client.delete(resources.NODES, name))


def create_node(made: ClusterOfAgents, name: str, address: str, pod_cidr: str = "") -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": pod_cidr} if pod_cidr else {},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }
    made.ask(lambda client: client.create(resources.NODES, body))


def test_a_node_is_registered_with_the_address_towards_the_api_server(made: ClusterOfAgents, pair) -> None:
    addresses = {each["type"]: each["address"] for each in made.node("n1")["status"]["addresses"]}
    assert addresses == {"Hostname": "n1", "InternalIP": "192.0.2.1"}


def test_the_network_configuration_gives_addresses_of_the_podcidr(made: ClusterOfAgents, pair) -> None:
    (plugin,) = json.loads(pair[0].conflist.read_text())["plugins"]
    assert (plugin["type"], plugin["ipam"]["ranges"]) == ("podwire", [[{"subnet": made.pod_cidr("n1")}]])


def test_the_installed_plugin_answers(pair) -> None:
    answer = pair[0].namespace.run("env", "CNI_COMMAND=VERSION", str(pair[0].plugin), stdin='{"cniVersion": "1.0.0"}')
    assert "1.0.0" in json.loads(answer)["supportedVersions"]


def test_packets_are_forwarded_and_masqueraded(pair) -> None:
    assert forwards(pair[0])
    assert "masquerade" in ruleset(pair[0])
    pair[0].namespace.run("nft", "-c", "-f", "-", stdin=ruleset(pair[0]))


def test_a_pod_is_wired_through_the_agents_socket(made: ClusterOfAgents, pair, make_namespace) -> None:
    pod, node = make_namespace("pod"), pair[0]
    before = served(node)
    assert call_plugin(node, "ADD", pod)["ips"][0]["address"].startswith(made.pod_cidr("n1").removesuffix("0/24"))
    call_plugin(node, "DEL", pod)
    eventually(lambda: served(node) == before + 2)
    assert node.socket.stat().st_mode & 0o777 == 0o600


def served(node: Agent) -> int:
    return node.log.count('event="cni call served"')


def call_plugin(node: Agent, command: str, pod) -> dict:
    conflist = json.loads(node.conflist.read_text())
    conf = conflist["plugins"][0] | {"name": conflist["name"], "cniVersion": conflist["cniVersion"]}
    environ = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "box",
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(node.plugin.parent),
    }
    variables = [f"{key}={value}" for key, value in environ.items()]
    return json.loads(node.namespace.run("env", *variables, str(node.plugin), stdin=json.dumps(conf)) or "{}")


def test_a_restarted_agent_frees_the_leases_of_pods_that_are_gone(made: ClusterOfAgents, pair) -> None:
    agent = pair[0]
    with namespaces.namespace("gone") as pod:
        call_plugin(agent, "ADD", pod)
        agent.end(signal.SIGKILL)
    # The kernel takes a namespace apart some time after its last user has gone: until then the pod may live.
    eventually(lambda: ports(agent.namespace) == set())
    before = freed(agent)
    agent.start()
    eventually(lambda: freed(agent) > before)


def freed(agent: Agent) -> int:
    return agent.log.count('event="leases without a pod freed"')


def test_a_node_that_joins_is_routed_to_and_one_that_leaves_is_not(made: ClusterOfAgents, pair) -> None:
    with another_node(made, "n3", "192.0.2.3") as pod_cidr:
        joined = f"{pod_cidr} via 192.0.2.3 dev eth0"
        eventually(lambda: all(joined in agent.routes() for agent in pair))
    eventually(lambda: not any(joined in agent.routes() for agent in pair))


def test_a_deleted_route_is_back_at_once(made: ClusterOfAgents, pair) -> None:
    pair[0].namespace.run("ip", "route", "delete", made.pod_cidr("n2"))
    eventually(lambda: pair[0].routes() == {route_to(made, pair[1])}, within=AT_ONCE)


def test_a_changed_route_is_put_right_at_once(made: ClusterOfAgents, pair) -> None:
    pair[0].namespace.run("ip", "route", "replace", made.pod_cidr("n2"), "via", "192.0.2.9", "proto", "112")
    eventually(lambda: pair[0].routes() == {route_to(made, pair[1])}, within=AT_ONCE)


def test_routes_return_with_their_link(made: ClusterOfAgents, pair) -> None:
    pair[0].namespace.run("ip", "link", "set", "eth0", "down")
    eventually(lambda: pair[0].routes() == set())
    pair[0].namespace.run("ip", "link", "set", "eth0", "up")
    eventually(lambda: pair[0].routes() == {route_to(made, pair[1])}, within=AT_ONCE)


def test_a_route_of_another_program_stays(pair) -> None:
    pair[0].namespace.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.9", "proto", "static")
    pair[0].namespace.run("ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.9", "proto", "112")
    eventually(lambda: len(pair[0].routes()) == 1, within=AT_ONCE)
    assert "198.51.100.0/24" in pair[0].namespace.run("ip", "route", "show", "proto", "static")
    pair[0].namespace.run("ip", "route", "delete", "198.51.100.0/24")


@pytest.mark.parametrize("harm", ["flush ruleset", "delete element ip podwire-node cluster { 192.0.2.2 }"])
def test_a_damaged_masquerade_table_is_put_right(pair, harm: str) -> None:
    pair[0].namespace.run("nft", harm)
    eventually(lambda: "192.0.2.2" in ruleset(pair[0]), within=AT_ONCE)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_changes_nothing_in_the_kernel_and_says_nothing_new(made: ClusterOfAgents, pair, number: int) -> None:
    agent, before, chosen = pair[0], made.node("n1")["metadata"]["resourceVersion"], addresses_chosen(pair[0])
    with watching(agent) as news:
        assert abs(agent.end(number)) == (0 if number == signal.SIGTERM else number)
        agent.start()
        eventually(lambda: addresses_chosen(agent) > chosen)
        # Once it has repaired what is broken now it has looked at everything; nothing else may have changed.
        agent.namespace.run("ip", "route", "delete", made.pod_cidr("n2"))
        agent.namespace.run("nft", "delete element ip podwire-node cluster { 192.0.2.2 }")
        eventually(lambda: is_settled(made))
        news.await_probe("last")
    assert news.routes() == [f"Deleted {made.pod_cidr('n2')}", made.pod_cidr("n2")]
    harm, repair = news.transactions()
    assert harm == "delete element ip podwire-node cluster { 192.0.2.2 }\n"
    assert "192.0.2.2" in repair
    assert made.node("n1")["metadata"]["resourceVersion"] == before


def addresses_chosen(agent: Agent) -> int:
    return agent.log.count('event="node address chosen"')


class News:
    """What `ip monitor` and `nft monitor` print, but for our probes."""

    def __init__(self, agent: Agent, routes: Path, tables: Path) -> None:
        self._run, self._routes, self._tables = agent.namespace.run, routes, tables

    def await_probe(self, name: str) -> None:
        """Change something again and again until both have printed it, and so everything before it."""
        route = PROBES[name]

        def is_printed() -> bool:
            self._run("ip", "route", "add", route, "dev", "eth0", "proto", "static")
            self._run("ip", "route", "delete", route, "dev", "eth0")
            for verb in ("add", "delete"):
                self._run("nft", verb, "table", "ip", f"probe-{name}")
            return route in self._routes.read_text() and f"probe-{name}" in self._tables.read_text()

        eventually(is_printed)

    def routes(self) -> list[str]:
        lines = [line.partition(" via ")[0] for line in self._routes.read_text().splitlines()]
        return [line for line in lines if not any(route in line for route in PROBES.values())]

    def transactions(self) -> list[str]:
        """Each ends with a line about the generation. The plugin's table is another's: it stands anew once it is asked for."""
        found = re.split(r"# new generation .*\n", self._tables.read_text())
        return [changes for changes in found if changes and not re.search("probe-|bridge podwire-cni", changes)]


@contextlib.contextmanager
def watching(agent: Agent) -> Iterator[News]:
    """From now on, and to the end."""
    with contextlib.ExitStack() as stack:
        news = News(agent, *(watch(stack, agent, command) for command in ("ip -4 monitor route", "nft monitor")))
        news.await_probe("first")
        yield news


def watch(stack: contextlib.ExitStack, agent: Agent, command: str) -> Path:
    path = agent.directory / f"{command}.log"
    with path.open("wb") as log:
        process = agent.namespace.start("stdbuf", "-oL", *command.split(), stdout=log)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return path


def test_a_second_agent_on_one_socket_refuses_and_harms_nothing(made: ClusterOfAgents, pair) -> None:
    done = subprocess.run(pair[0].namespace.argv(*pair[0].argv()), capture_output=True, text=True, timeout=250)
    assert done.returncode != 0
    assert "serves it already" in done.stderr.splitlines()[-1]
    assert pair[0].routes() == {route_to(made, pair[1])}


def test_without_the_api_server_routes_are_kept_and_repaired(fresh: ClusterOfAgents, pair) -> None:
    expected = {route_to(fresh, pair[1])}
    fresh.kill_api()
    pair[0].namespace.run("ip", "route", "flush", "proto", "112")
    eventually(lambda: pair[0].routes() == expected, within=AT_ONCE)


def test_an_agent_that_starts_without_the_api_server_keeps_routes_and_wires_pods(
    fresh: ClusterOfAgents, pair, make_namespace
) -> None:
    agent, expected, pod = pair[0], {route_to(fresh, pair[1])}, make_namespace("pod")
    fresh.kill_api()
    agent.end(signal.SIGKILL)
    agent.start()
    eventually(lambda: agent.log.count('event="node agent started"') == 2)
    assert "ips" in call_plugin(agent, "ADD", pod)
    call_plugin(agent, "DEL", pod)
    eventually(lambda: "cannot be followed" in agent.log.rpartition('event="node agent started"')[2])
    assert agent.routes() == expected


def test_after_the_api_server_returned_news_arrive(fresh: ClusterOfAgents, pair) -> None:
    fresh.kill_api()
    fresh.start_api()
    create_node(fresh, "n3", "192.0.2.3")
    joined = f"{fresh.pod_cidr('n3')} via 192.0.2.3 dev eth0"
    eventually(lambda: all(joined in agent.routes() for agent in pair), within=90)


def test_a_deleted_node_registers_again(made: ClusterOfAgents, pair) -> None:
    uid = made.node("n1")["metadata"]["uid"]
    made.ask(lambda client: client.delete(resources.NODES, "n1"))
    eventually(lambda: made.is_ready("n1") and made.node("n1")["metadata"]["uid"] != uid)
    eventually(lambda: pair[1].routes() == {route_to(made, pair[0])})


def test_a_new_podcidr_is_warned_of_and_given_to_new_pods(made: ClusterOfAgents, pair) -> None:
    agent, old = pair[0], made.pod_cidr("n1")
    agent.end()
    made.ask(lambda client: client.delete(resources.NODES, "n1"))
    create_node(made, "taker", "192.0.2.9", old)
    agent.start()
    eventually(lambda: made.is_ready("n1"))
    new = made.pod_cidr("n1")
    assert new != old
    eventually(lambda: new in agent.conflist.read_text())
    eventually(lambda: f"old={old} new={new}" in agent.log.replace('"', ""))
    made.ask(lambda client: client.delete(resources.NODES, "taker"))


def test_a_node_beyond_a_gateway_is_named_once_and_costs_no_other(made: ClusterOfAgents, pair) -> None:
    agent = pair[0]
    agent.namespace.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.254")
    with another_node(made, "far", "198.51.100.7") as far, another_node(made, "n3", "192.0.2.3") as near:
        eventually(lambda: f"{near} via 192.0.2.3 dev eth0" in agent.routes())
        eventually(lambda: "198.51.100.7 is not on a link of this node but behind 192.0.2.254 on eth0" in agent.log)
        assert agent.log.count(f"no route to its podCIDR {far}") == 1
        assert not any(far in route for route in agent.routes())
    agent.namespace.run("ip", "route", "delete", "198.51.100.0/24")


def test_a_node_with_this_nodes_address_is_named(made: ClusterOfAgents, pair) -> None:
    with another_node(made, "twin", "192.0.2.1"):
        eventually(lambda: "192.0.2.1 is also that of node n1" in pair[0].log)
        eventually(lambda: "192.0.2.1 is this node's own" in pair[0].log)


def test_a_node_that_moves_tells_the_others(fresh: ClusterOfAgents, pair) -> None:
    moved = pair[0].namespace
    moved.run("ip", "address", "delete", "192.0.2.1/24", "dev", "eth0")
    moved.run("ip", "address", "add", "192.0.2.51/24", "dev", "eth0")
    eventually(lambda: pair[1].routes() == {f"{fresh.pod_cidr('n1')} via 192.0.2.51 dev eth0"})


def test_the_given_address_is_used(fresh: ClusterOfAgents) -> None:
    agent = fresh.add("n3", "192.0.2.3", "--node-ip=192.0.2.61")
    agent.namespace.run("ip", "address", "add", "192.0.2.61/24", "dev", "eth0")
    eventually(lambda: fresh.is_ready("n3"))
    assert {"type": "InternalIP", "address": "192.0.2.61"} in fresh.node("n3")["status"]["addresses"]
