"""`podwire-ipam` as a main plugin calls it: the same stdin and environment, only addresses in the answer."""

import json

import pytest

from cni import dispatch
from cni.host import LeasePlace
from cni.ipam_plugin import resolv_conf
from ipam.leases import Leases
from tests.cni_node import environment

SUBNET, SUBNET6 = "10.1.0.0/29", "fd00:1::/64"  # .1 is the gateway; .2 … .6 are given


class Caller:
    def __init__(self, directory) -> None:
        self.directory, self.boot = directory, "boot-1"

    def __call__(self, command, container="a", *, env=None, ipam=None, **changes):
        section = {
            "type": "podwire-ipam",
            "ranges": [[{"subnet": SUBNET}]],
            "dataDir": str(self.directory),
            **(ipam or {}),
        }
        conf = {"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": 7, "ipam": section, **changes}
        environ = environment(command, container, f"/run/netns/{container}") | (env or {})
        place = LeasePlace(boot_id=self.boot, leases=Leases)
        reply = dispatch.run_ipam(environ, json.dumps(conf).encode(), lambda: place)
        return {**(json.loads(reply.stdout) if reply.stdout else {}), "exit": reply.exit_code}

    def held(self):
        with Leases(self.directory) as leases:
            return {lease.claim.attachment.container_id: lease.listed for lease in leases.of("net")}


@pytest.fixture
def call(tmp_path):
    return Caller(tmp_path / "leases")


def test_result_holds_addresses_and_routes_only(call):
    assert call("ADD", ipam={"routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}]}) == {
        "cniVersion": "1.1.0",
        "ips": [{"address": "10.1.0.2/29", "gateway": "10.1.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}],
        "exit": 0,
    }


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_addresses_say_their_family_before_1_0_0(call, version):
    assert call("ADD", cniVersion=version)["ips"] == [{"version": "4", "address": "10.1.0.2/29", "gateway": "10.1.0.1"}]


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_flat_shape(call, version):
    answer = call("ADD", cniVersion=version, ipam={"ranges": [[{"subnet": SUBNET}], [{"subnet": SUBNET6}]]})
    assert (answer["ip4"]["ip"], answer["ip6"]["ip"]) == ("10.1.0.2/29", "fd00:1::2/64")


def test_host_locals_older_spelling_of_one_range(call):
    ipam = {"ranges": [], "subnet": SUBNET, "rangeStart": "10.1.0.4", "gateway": "10.1.0.6"}
    assert call("ADD", ipam=ipam)["ips"] == [{"address": "10.1.0.4/29", "gateway": "10.1.0.6"}]


def test_name_servers_come_from_the_file_that_is_named(call, tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example.org\n")
    answer = call("ADD", ipam={"resolvConf": str(tmp_path / "resolv.conf")})
    assert answer["dns"] == {"nameservers": ["192.0.2.53"], "search": ["example.org"]}


def test_resolv_conf_with_everything():
    text = "# ours\nnameserver 1.1.1.1 # first\nnameserver 2.2.2.2\n\ndomain a\nsearch b c\noptions ndots:5 rotate\nsortlist 10.0.0.0\n"
    assert resolv_conf.parse(text) == {
        "nameservers": ["1.1.1.1", "2.2.2.2"],
        "domain": "a",
        "search": ["b", "c"],
        "options": ["ndots:5", "rotate"],
    }


@pytest.mark.parametrize(
    "asking",
    [
        pytest.param({"env": {"CNI_ARGS": "IP=10.1.0.5"}}, id="CNI_ARGS"),
        pytest.param({"args": {"cni": {"ips": ["10.1.0.5"]}}}, id="args.cni"),
        pytest.param({"runtimeConfig": {"ips": ["10.1.0.5/29"]}}, id="runtimeConfig"),
    ],
)
def test_wanted_address_is_given(call, asking):
    assert call("ADD", **asking)["ips"][0]["address"] == "10.1.0.5/29"


def test_wanted_address_of_another_is_refused_with_its_owner(call):
    call("ADD", "first", runtimeConfig={"ips": ["10.1.0.5"]})
    refused = call("ADD", "second", runtimeConfig={"ips": ["10.1.0.5"]})
    assert refused["exit"] == 1
    assert refused["msg"] == "10.1.0.5 is already in use by first/eth0"


@pytest.mark.parametrize("address", ["10.1.0.1", "10.9.0.1", "fd00::9"])
def test_address_no_range_gives_is_refused(call, address):
    refused = call("ADD", runtimeConfig={"ips": [address]})
    assert (refused["code"], refused["msg"].split(" cannot")[0]) == (7, address)


def test_ranges_of_the_runtime_come_first(call):
    answer = call("ADD", runtimeConfig={"ipRanges": [[{"subnet": SUBNET6}]]})
    assert [ip["address"] for ip in answer["ips"]] == ["fd00:1::2/64", "10.1.0.2/29"]


def test_second_add_is_refused_but_the_same_call_again_gets_its_answer(call):
    first = call("ADD", env={"PODWIRE_REQUEST": "r1"})
    assert call("ADD", env={"PODWIRE_REQUEST": "r1"}) == first
    assert call("ADD", env={"PODWIRE_REQUEST": "r2"})["code"] == 101


def test_delete_frees_and_may_be_repeated(call):
    call("ADD")
    assert [call("DEL")["exit"], call("DEL")["exit"], call.held()] == [0, 0, {}]


def test_delete_works_when_the_section_was_broken_since(call):
    call("ADD")
    assert call("DEL", ipam={"ranges": "none"})["exit"] == 0
    assert call.held() == {}


def test_check_passes_until_the_lease_is_gone(call):
    result = call("ADD")
    assert call("CHECK", prevResult=result)["exit"] == 0
    call("DEL")
    assert call("CHECK", prevResult=result)["code"] == 3


def test_check_names_the_address_the_result_does_not_have(call):
    call("ADD")
    refused = call("CHECK", prevResult={"ips": [{"address": "10.1.0.3/29"}]})
    assert "the lease has 10.1.0.2/29" in refused["msg"]


def test_collect_keeps_the_valid_and_frees_the_others(call):
    for name in ("a", "b", "c"):
        call("ADD", name)
    valid = [{"containerID": "b", "ifname": "eth0"}]
    assert call("GC", **{"cni.dev/valid-attachments": valid})["exit"] == 0
    assert set(call.held()) == {"b"}


def test_collect_without_a_list_frees_nothing_and_with_an_empty_one_everything(call):
    call("ADD")
    call("GC")
    assert set(call.held()) == {"a"}
    call("GC", **{"cni.dev/valid-attachments": []})
    assert call.held() == {}


def test_status_names_the_full_range(call):
    ipam = {"ranges": [[{"subnet": SUBNET}], [{"subnet": SUBNET6}]]}
    for number in range(4):
        call("ADD", f"c{number}", ipam=ipam)
    assert call("STATUS", ipam=ipam)["exit"] == 0
    call("ADD", "last", ipam=ipam)
    told = call("STATUS", ipam=ipam)
    assert (told["code"], "5 of 5 addresses of 10.1.0.0/29" in told["msg"]) == (50, True)


def test_leases_end_with_the_boot(call):
    call("ADD", "before")
    call.boot = "boot-2"
    call("ADD", "after")
    assert set(call.held()) == {"after"}


@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_command_younger_than_the_version_is_refused(call, command, version):
    assert call(command, cniVersion=version)["code"] == 1


def test_version_lists_every_version(call):
    assert call("VERSION")["supportedVersions"][-1] == "1.1.0"


def test_relative_directory_is_refused(call):
    assert "ipam.dataDir='here'" in call("ADD", ipam={"dataDir": "here"})["msg"]
