"""The plugin executed as runtimes execute it, with packets between the pods it wired.

Address plan: pods 10.244.1.0/24 with gateway .1 on the node; outside 192.0.2.2, which knows no way back to the pods.
"""

import contextlib
import json
import socket
import subprocess
import time

import pytest

from cni import install
from dataplane import atomic_file
from tests.cni_plugin import PYTHON, PluginNode, finish
from tests.namespaces import connect, namespace

OUTSIDE, NODE_OUTSIDE = "192.0.2.2", "192.0.2.1"
PORT = 7000


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


@pytest.fixture
def pod(make_namespace):
    return make_namespace("pod")


def address(answer) -> str:
    return answer["ips"][0]["address"].partition("/")[0]


def seen_client(server, client, server_address: str) -> str:
    """Connect from one namespace to another; the client's address as the server sees it."""

    def listen() -> socket.socket:
        return socket.create_server(("", PORT))

    with server.call(listen) as listener:
        listener.settimeout(30)
        with client.call(lambda: socket.create_connection((server_address, PORT), timeout=30)):
            connection, peer = listener.accept()
            connection.close()
            return peer[0]


def test_pods_reach_each_other_under_their_own_addresses(node, make_namespace):
    pods = [make_namespace("pod") for _ in range(2)]
    addresses = [address(node.execute("ADD", each)) for each in pods]
    assert seen_client(pods[0], pods[1], addresses[0]) == addresses[1]


def test_pod_and_node_reach_each_other_under_their_own_addresses(node, pod):
    own = address(node.execute("ADD", pod))
    assert seen_client(node.namespace, pod, "10.244.1.1") == own
    assert seen_client(pod, node.namespace, own) == "10.244.1.1"


def test_pod_reaches_itself_under_its_own_address(node, pod):
    own = address(node.execute("ADD", pod))
    assert seen_client(pod, pod, own) == own


def test_outside_sees_the_node_when_the_network_masquerades(node, pod, make_namespace):
    outside = make_namespace("outside")
    connect(node.namespace, f"{NODE_OUTSIDE}/24", outside, f"{OUTSIDE}/24", device="uplink")
    node.execute("ADD", pod, ipMasq=True)
    assert seen_client(outside, pod, OUTSIDE) == NODE_OUTSIDE


def test_pods_see_each_other_when_the_network_masquerades(node, make_namespace):
    pods = [make_namespace("pod") for _ in range(2)]
    addresses = [address(node.execute("ADD", each, ipMasq=True)) for each in pods]
    assert seen_client(pods[0], pods[1], addresses[0]) == addresses[1]


def test_masquerade_table_lists_and_loads_back(node, make_namespace):
    for each in [make_namespace("pod") for _ in range(2)]:
        node.execute("ADD", each, ipMasq=True)
    listing = node.namespace.run("nft", "list", "ruleset")
    assert listing.count("masquerade fully-random") == 1
    node.namespace.run("nft", "-c", "-f", "-", stdin=listing)


def test_bridge_shows_its_frames_to_the_ip_hooks_and_lets_them_turn_back(node, pod):
    answer = node.execute("ADD", pod)
    bridge = json.loads(node.namespace.run("ip", "-json", "-detail", "link", "show", "podwire0"))[0]
    settings = bridge["linkinfo"]["info_data"]
    assert (settings["nf_call_iptables"], settings["nf_call_ip6tables"]) == (1, 1)
    port = node.namespace.run("bridge", "-detail", "link", "show", "dev", answer["interfaces"][1]["name"])
    assert "hairpin on" in port


def test_macs_follow_from_addresses_and_stay(node, pod):
    answer = node.execute("ADD", pod)
    bridge, veth, eth0 = (interface["mac"] for interface in answer["interfaces"])
    assert (bridge, eth0) == ("0a:58:0a:f4:01:01", "0a:58:0a:f4:01:02")
    shown = {link["ifname"]: link["address"] for link in json.loads(node.namespace.run("ip", "-json", "link"))}
    assert (shown["podwire0"], shown[answer["interfaces"][1]["name"]]) == (bridge, veth)


def test_check_is_silent_until_the_pod_loses_its_address(node, pod):
    answer = node.execute("ADD", pod)
    del answer["exit"]
    assert node.execute("CHECK", pod, prevResult=answer) == {"exit": 0}
    pod.run("ip", "address", "flush", "dev", "eth0")
    refused = node.execute("CHECK", pod, prevResult=answer)
    assert (refused["code"], "eth0 has lost 10.244.1.2/24" in refused["details"]) == (102, True)


def test_delete_leaves_only_the_bridge(node, pod):
    before = pod.run("ip", "-brief", "link")
    node.execute("ADD", pod)
    assert node.execute("DEL", pod) == {"exit": 0}
    assert (node.leased(), node.veths(), pod.run("ip", "-brief", "link")) == ({}, [], before)


def test_delete_after_the_namespace_is_gone_frees_the_lease(node):
    with namespace("gone") as gone:
        node.execute("ADD", gone)
    assert node.execute("DEL", gone) == {"exit": 0}
    assert (node.leased(), node.veths()) == ({}, [])


def test_delete_by_a_reused_pid_path_leaves_the_strangers_pod_alone(node, make_namespace):
    stranger = make_namespace("stranger")
    with namespace("gone") as gone:
        node.execute("ADD", gone)
    node.execute("ADD", stranger)
    process = stranger.start("sleep", "60")
    try:
        assert node.execute("DEL", gone, netns=f"/proc/{process.pid}/ns/net") == {"exit": 0}
    finally:
        process.kill()
        process.wait()
    assert list(node.leased()) == [stranger.name]
    assert "10.244.1.3" in stranger.run("ip", "-4", "address", "show", "eth0")


def test_second_add_is_refused_and_the_pod_stays_reachable(node, pod):
    own = address(node.execute("ADD", pod))
    assert node.execute("ADD", pod)["code"] == 101
    assert seen_client(pod, node.namespace, own) == "10.244.1.1"


def test_exhausted_pool_leaves_nothing_in_the_pod(node, make_namespace):
    first, second = make_namespace("pod"), make_namespace("pod")
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/30"}]]}
    node.execute("ADD", first, ipam=ipam)
    refused = node.execute("ADD", second, ipam=ipam)
    assert (refused["code"], refused["msg"].startswith("10.244.1.0/30 is exhausted: 1 of 1")) == (100, True)
    assert (list(node.leased()), len(node.veths()), "eth0" in second.run("ip", "link")) == ([first.name], 1, False)


def test_nodes_own_namespace_is_refused(node):
    refused = node.execute("ADD", node.namespace)
    assert (refused["code"], node.veths()) == (8, [])


def test_network_of_full_mtu_range(node, pod):
    node.execute("ADD", pod, mtu=1400)
    assert "mtu 1400" in pod.run("ip", "link", "show", "eth0")


@pytest.mark.timeout(900)  # 64 interpreters start at once
def test_64_at_once_get_64_addresses_and_give_them_back(node):
    with contextlib.ExitStack() as stack:
        pods = [stack.enter_context(namespace("many")) for _ in range(64)]
        answers = [finish(process) for process in [node.start("ADD", each, ipMasq=True) for each in pods]]
        given = {address(answer) for answer in answers}
        assert (len(given), set(node.leased().values())) == (64, given)
        assert [node.call("DEL", each)["exit"] for each in pods] == [0] * 64
    assert (node.leased(), node.veths()) == ({}, [])


def test_agent_and_plugin_alone_answer_alike(node, make_namespace):
    pods = [make_namespace("pod") for _ in range(2)]
    with node.agent(node.answer):
        by_agent = node.execute("ADD", pods[0])
    alone = node.execute("ADD", pods[1])
    text = json.dumps(by_agent).replace(pods[0].name, pods[1].name).replace("10.244.1.2/", "10.244.1.3/")
    expected = json.loads(text.replace("0a:58:0a:f4:01:02", "0a:58:0a:f4:01:03"))
    expected["interfaces"][1] = alone["interfaces"][1]  # the name comes from the container's
    assert alone == expected


def test_agent_that_dies_after_wiring_costs_nothing(node, pod):
    def wire_and_die(connection: socket.socket) -> None:
        copy = connection.dup()
        connection.shutdown(socket.SHUT_WR)  # the answer is lost
        with copy, contextlib.suppress(OSError):
            node.answer(copy)

    with node.agent(wire_and_die):
        answer = node.execute("ADD", pod)
    assert (answer["exit"], list(node.leased()), len(node.veths())) == (0, [pod.name], 1)
    assert seen_client(pod, node.namespace, address(answer)) == "10.244.1.1"


def test_agent_of_another_namespace_is_not_asked(node, pod, make_namespace):
    elsewhere = PluginNode(make_namespace("elsewhere"), node.directory)
    with elsewhere.agent(elsewhere.answer):
        node.execute("ADD", pod)
    assert (len(node.veths()), elsewhere.veths()) == (1, [])


@pytest.fixture(params=[True, False], ids=["compiled", "script"])
def impatient(request, node) -> PluginNode:
    """The node with an executable that waits a second for the agent."""
    text = install.render(PYTHON, node.socket_path, compiled=request.param, patience=1)
    atomic_file.write(node.executable, text, mode=0o755)
    return node


def test_stopped_agent_does_not_block_a_delete(impatient, pod):
    """The kernel accepts into the backlog of a process that stands still; the shim gives it up."""
    node = impatient
    node.execute("ADD", pod)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(node.socket_path))
        stopped.listen()
        started = time.monotonic()
        assert node.execute("DEL", pod) == {"exit": 0}
    assert (node.leased(), time.monotonic() - started >= 1) == ({}, True)


def test_agent_with_a_full_backlog_is_told_as_busy(impatient, pod):
    node = impatient
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket(socket.AF_UNIX))
        full.bind(str(node.socket_path))
        full.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(node.socket_path))
        assert node.execute("ADD", pod)["code"] == 11


def test_runtime_sees_the_address_used_by_iproute2(node, pod):
    """The plugin's word against an independent program's."""
    answer = node.execute("ADD", pod)
    shown = json.loads(pod.run("ip", "-json", "-4", "address", "show", "eth0"))[0]["addr_info"][0]
    route = json.loads(pod.run("ip", "-json", "route", "show", "default"))[0]
    assert (f"{shown['local']}/{shown['prefixlen']}", route["gateway"]) == (
        answer["ips"][0]["address"],
        answer["ips"][0]["gateway"],
    )


def test_reference_bridge_plugin_and_this_one_agree(node, make_namespace):
    """The same configuration through Debian's bridge + host-local wires a pod alike."""
    ours, theirs = make_namespace("pod"), make_namespace("pod")
    answer = node.execute("ADD", ours)
    conf = json.loads(node.stdin()) | {"type": "bridge", "bridge": "cni0", "isGateway": True}
    conf["ipam"] |= {"type": "host-local", "dataDir": str(node.directory / "host-local")}
    environ = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "x", "CNI_NETNS": theirs.path, "CNI_IFNAME": "eth0"}
    done = subprocess.run(
        node.namespace.argv("/usr/lib/cni/bridge"),
        env={**environ, "CNI_PATH": "/usr/lib/cni"},
        input=json.dumps(conf).encode(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    reference = json.loads(done.stdout)
    assert [ip["address"] for ip in reference["ips"]] == [ip["address"] for ip in answer["ips"]]
    assert [set(interface) for interface in reference["interfaces"]] == [set(each) for each in answer["interfaces"]]
    assert {route["dst"] for route in reference["routes"]} == {route["dst"] for route in answer["routes"]}
