"""Addresses from another IPAM plugin: what it is asked, what is done with its answer, and that it is always told to let go."""

import json
from pathlib import Path

import pytest

from tests.cni_node import FakeNode

FOREIGN = """#!/bin/sh
cat > "$STATE/stdin.$CNI_COMMAND"
echo "$CNI_COMMAND $CNI_CONTAINERID/$CNI_IFNAME" >> "$STATE/calls"
if [ -e "$STATE/refuse.$CNI_COMMAND" ]; then
    echo '{"cniVersion": "1.1.0", "code": 77, "msg": "no more", "details": "ask later"}'
    exit 1
fi
[ "$CNI_COMMAND" = ADD ] && cat "$STATE/answer"
exit 0
"""
ANSWER = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.7.0.9/24", "gateway": "10.7.0.1"}],
    "routes": [{"dst": "192.0.2.0/24"}],
    "dns": {"nameservers": ["192.0.2.53"]},
}


class Foreign:
    """An IPAM plugin of somebody else, in a directory of CNI_PATH."""

    def __init__(self, node: FakeNode, state: Path) -> None:
        self.node, self.state = node, state
        self.script(FOREIGN.replace("$STATE", str(state)))
        self.answer(ANSWER)

    def script(self, text: str) -> None:
        path = self.state / "foreign"
        path.write_text(text)
        path.chmod(0o755)

    def answer(self, result) -> None:
        (self.state / "answer").write_text(json.dumps(result))

    def refuse(self, command: str) -> None:
        (self.state / f"refuse.{command}").touch()

    def accept(self, command: str) -> None:
        (self.state / f"refuse.{command}").unlink()

    @property
    def calls(self) -> list[str]:
        return (self.state / "calls").read_text().splitlines() if (self.state / "calls").exists() else []

    def call(self, command, pod, **changes):
        conf = {"cniVersion": "1.1.0", "ipam": {"type": "foreign", "colour": "blue"}, **changes}
        return self.node.call(command, pod, env={"CNI_PATH": f"/nowhere:{self.state}"}, **conf)


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


@pytest.fixture
def foreign(node, tmp_path) -> Foreign:
    (tmp_path / "foreign").mkdir()
    return Foreign(node, tmp_path / "foreign")


@pytest.fixture
def pod(node):
    return node.pod("web")


def test_its_answer_is_wired_and_reported(foreign, node, pod):
    answer = foreign.call("ADD", pod)
    assert answer["ips"] == [{"address": "10.7.0.9/24", "interface": 2, "gateway": "10.7.0.1"}]
    assert [route["dst"] for route in answer["routes"]] == ["192.0.2.0/24", "0.0.0.0/0"]
    assert answer["dns"] == {"nameservers": ["192.0.2.53"]}
    assert [str(held.interface) for held in pod.netlink.addresses("eth0")] == ["10.7.0.9/24"]
    assert [str(held.interface) for held in node.netlink.addresses("podwire0")] == ["10.7.0.1/24"]


def test_it_reads_the_whole_configuration(foreign, pod):
    foreign.call("ADD", pod, args={"cni": {"ips": ["10.7.0.9"]}})
    read = json.loads((foreign.state / "stdin.ADD").read_text())
    assert (read["ipam"], read["args"], read["name"]) == (
        {"type": "foreign", "colour": "blue"},
        {"cni": {"ips": ["10.7.0.9"]}},
        "net",
    )


def test_delete_tells_it_even_without_namespace_and_lease(foreign, node, pod):
    foreign.call("ADD", pod)
    (node.directory / "leases.db").unlink()
    node.vanish(pod)
    assert foreign.call("DEL", pod) == {"exit": 0}
    assert foreign.calls == ["ADD web/eth0", "DEL web/eth0"]


def test_a_delete_it_refuses_can_be_repeated(foreign, node, pod):
    foreign.call("ADD", pod)
    foreign.refuse("DEL")
    answer = foreign.call("DEL", pod)
    assert (answer["code"], answer["msg"], answer["details"]) == (77, "IPAM plugin foreign DEL: no more", "ask later")
    foreign.accept("DEL")
    assert (foreign.call("DEL", pod), node.leased()) == ({"exit": 0}, {})


def test_its_refusal_keeps_its_own_code_and_leaves_nothing(foreign, node, pod):
    foreign.refuse("ADD")
    answer = foreign.call("ADD", pod)
    assert (answer["code"], node.leased(), node.veths()) == (77, {}, [])


def test_what_a_killed_call_left_in_it_is_let_go_before_it_is_asked_again(foreign, pod):
    duplicate = FOREIGN.replace("$STATE", str(foreign.state)) + "exit 0"
    once = f'[ "$CNI_COMMAND" = DEL ] && rm -f "{foreign.state}/refuse.ADD"\n'
    foreign.script(duplicate.replace("exit 0\n", once + "exit 0\n", 1))
    foreign.refuse("ADD")
    assert foreign.call("ADD", pod)["ips"][0]["address"] == "10.7.0.9/24"
    assert foreign.calls == ["ADD web/eth0", "DEL web/eth0", "ADD web/eth0"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"ips": []},
        {"ips": [{"address": "10.7.0.300/24"}]},
        {"ips": [{"address": "10.7.0.1/24", "gateway": "10.7.0.1"}]},
        {"ips": [{"address": "10.7.0.9/24"}], "routes": [{"dst": "everywhere"}]},
        {"ips": "many"},
    ],
)
def test_an_answer_that_cannot_be_wired_is_given_back(foreign, node, pod, answer):
    foreign.answer(answer)
    refused = foreign.call("ADD", pod)
    assert (refused["code"], "IPAM plugin foreign" in refused["msg"]) == (7, True)
    assert (foreign.calls[-1], node.leased(), node.veths()) == ("DEL web/eth0", {}, [])


def test_a_failure_of_the_wiring_gives_its_address_back(foreign, node, pod):
    foreign.answer({**ANSWER, "routes": [{"dst": "192.0.2.0/24", "gw": "198.51.100.1"}]})
    assert foreign.call("ADD", pod)["code"] == 104
    assert (foreign.calls, node.leased()) == (["ADD web/eth0", "DEL web/eth0"], {})


def test_check_asks_it_too(foreign, pod):
    answer = foreign.call("ADD", pod)
    del answer["exit"]
    assert foreign.call("CHECK", pod, prevResult=answer) == {"exit": 0}
    foreign.refuse("CHECK")
    assert foreign.call("CHECK", pod, prevResult=answer)["code"] == 77


def test_status_is_its_own(foreign, pod):
    assert foreign.call("STATUS", pod) == {"exit": 0}
    foreign.refuse("STATUS")
    assert foreign.call("STATUS", pod)["code"] == 77


def test_gc_lets_each_stale_attachment_go_and_is_forwarded(foreign, node, pod):
    foreign.call("ADD", pod)
    assert foreign.call("GC", node.pod("any"), **{"cni.dev/valid-attachments": []}) == {"exit": 0}
    assert (foreign.calls[1], foreign.calls[2].split()[0]) == ("DEL web/eth0", "GC")
    assert json.loads((foreign.state / "stdin.GC").read_text())["cni.dev/valid-attachments"] == []


def test_a_plugin_that_is_not_there_is_named_with_where_it_was_looked_for(node, pod):
    answer = node.call("ADD", pod, ipam={"type": "absent"})
    assert (answer["code"], "IPAM plugin absent ADD: plugin not found in /opt/cni/bin" in answer["msg"]) == (5, True)
