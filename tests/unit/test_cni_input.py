"""What the plugin accepts as environment and configuration, and the code and words of each refusal."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni import dispatch, spec
from tests.cni_node import environment, netconf

ENVIRONMENT = environment("ADD", "web", "/run/netns/web")
DIRECTORY = Path("/nowhere")


def refuse_host():
    raise AssertionError("the call reached the node")


def call(env=ENVIRONMENT, stdin=None, **changes):
    conf = json.dumps(netconf(DIRECTORY, **changes)).encode() if stdin is None else stdin
    reply = dispatch.run(env, conf, refuse_host)
    return {**json.loads(reply.stdout), "exit": reply.exit_code}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
        ("GC", "CNI_PATH"),
        ("STATUS", "CNI_PATH"),
    ],
)
def test_every_missing_variable_is_named_at_once(command, named):
    answer = call({"CNI_COMMAND": command})
    assert (answer["exit"], answer["code"]) == (1, 4)
    assert answer["msg"] == f"required env variables [{named}] missing"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_COMMAND", "GOSSIP"),
        ("CNI_COMMAND", ""),
        ("CNI_CONTAINERID", "-leading-dash"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "web\n"),
        ("CNI_IFNAME", "sixteen-letters!"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_ARGS", "novalue"),
        ("CNI_ARGS", "K8S_POD_NAME=a=b"),
        ("CNI_ARGS", "COLOUR=blue"),
    ],
)
def test_bad_variable_is_code_4_and_names_its_value(variable, value):
    answer = call(ENVIRONMENT | {variable: value})
    assert answer["code"] == 4
    assert value.partition("=")[0].strip() in answer["msg"]


@pytest.mark.parametrize("wanted", ["IP=there", "IP=10.244.1.300", "MAC=red", "MAC=01:00:5e:00:00:01"])
def test_bad_request_by_argument_is_code_4_and_names_its_value(wanted):
    answer = call(ENVIRONMENT | {"CNI_ARGS": f"IgnoreUnknown=1;{wanted}"})
    assert (answer["code"], wanted.partition("=")[2] in answer["msg"]) == (4, True)


@pytest.mark.parametrize("stdin", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b'{"name": }'])
def test_stdin_that_is_no_json_object_is_code_6(stdin):
    assert call(stdin=stdin)["code"] == 6


def ranges(*entries):
    return {"type": "podwire-ipam", "ranges": [list(entries)]}


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"name": ""}, "missing network name", ""),
        ({"name": "a/b"}, "name=", "a/b"),
        ({"name": 7}, "name=", "7"),
        ({"mtu": "big"}, "mtu=", "big"),
        ({"mtu": 20}, "mtu=", "20"),
        ({"mtu": 65536}, "mtu=", "65536"),
        ({"bridge": "sixteen-letters!"}, "bridge=", "sixteen-letters!"),
        ({"bridge": ""}, "bridge=", "''"),
        ({"ipMasq": "yes"}, "ipMasq=", "yes"),
        ({"dataDir": "relative"}, "dataDir=", "relative"),
        ({"ipam": None}, "ipam=", "None"),
        ({"ipam": {"type": ""}}, "ipam.type=", "''"),
        ({"ipam": {"type": "../evil"}}, "ipam.type=", "../evil"),
        ({"ipam": {"ranges": []}}, "ipam=", "type"),
        ({"ipam": {"type": "podwire-ipam", "ranges": []}}, "ipam.ranges=", "[]"),
        ({"ipam": ranges()}, "ipam.ranges[0]=", "[]"),
        ({"ipam": {"type": "podwire-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}], []]}}, "ipam.ranges[1]=", "[]"),
        ({"ipam": ranges({})}, "ipam.ranges[0][0]=", "subnet"),
        ({"ipam": ranges({"subnet": 10})}, "ipam.ranges[0][0].subnet=", "10"),
        ({"ipam": ranges({"subnet": "10.244.1.0/33"})}, "ipam.ranges[0][0].subnet=", "10.244.1.0/33"),
        ({"ipam": ranges({"subnet": "10.244.1.7/24"})}, "ipam.ranges[0][0].subnet=", "10.244.1.7/24"),
        ({"ipam": ranges({"subnet": "10.244.1.0/31"})}, "ipam.ranges[0][0].subnet=", "too small"),
        ({"ipam": ranges({"subnet": "fd00::/127"})}, "ipam.ranges[0][0].subnet=", "at least a /126"),
        ({"ipam": ranges({"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"})}, "ipam.ranges[0]=", "one family"),
        ({"ipam": ranges({"subnet": "10.1.0.0/24", "gateway": "fd00::1"})}, "ipam.ranges[0][0].gateway=", "IPv4"),
        (
            {"ipam": ranges({"subnet": "10.1.0.0/24", "exclude": ["10.1.1.0/30"]})},
            "ipam.ranges[0][0].exclude[0]=",
            "inside 10.1.0.0/24",
        ),
        (
            {"ipam": {"type": "podwire-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/16"}]]}},
            "ipam.ranges[1][0]=",
            "in ipam.ranges[0][0]",
        ),
        (
            {"ipam": {**ranges({"subnet": "10.1.0.0/24"}), "routes": [{"dst": "::/0"}]}},
            "ipam.routes[0].dst=",
            "no IPv6 address",
        ),
        ({"ipam": {**ranges({"subnet": "10.1.0.0/24"}), "cooldownSeconds": -1}}, "ipam.cooldownSeconds=", "0 to 3600"),
        (
            {
                "cniVersion": "0.2.0",
                "ipam": {"type": "podwire-ipam", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]},
            },
            "ipam.ranges=",
            "one address of each family",
        ),
        (
            {"ipam": ranges({"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"})},
            "ipam.ranges[0][0].gateway=",
            "10.2.0.1",
        ),
        (
            {"ipam": ranges({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.0"})},
            "ipam.ranges[0][0].rangeStart=",
            "10.1.0.0",
        ),
        (
            {"ipam": ranges({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.3"})},
            "ipam.ranges[0][0].rangeStart=",
            "10.1.0.9",
        ),
        (
            {"ipam": ranges({"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/25"})},
            "ipam.ranges[0][1]=",
            "overlaps",
        ),
        (
            {"ipam": {**ranges({"subnet": "10.1.0.0/24"}), "routes": [{"dst": "everywhere"}]}},
            "ipam.routes[0].dst=",
            "everywhere",
        ),
        (
            {"ipam": {**ranges({"subnet": "10.1.0.0/24"}), "routes": [{"dst": "0.0.0.0/0", "gw": "there"}]}},
            "ipam.routes[0].gw=",
            "there",
        ),
        ({"runtimeConfig": {"mac": "red"}}, "runtimeConfig.mac=", "red"),
        ({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}, "runtimeConfig.mac=", "00:00:00:00:00:00"),
        ({"runtimeConfig": {"mac": 7}}, "runtimeConfig.mac=", "7"),
        ({"args": {"cni": {"mac": "ff:ff:ff:ff:ff:ff"}}}, "args.cni.mac=", "ff:ff:ff:ff:ff:ff"),
        ({"args": {"cni": {"ips": ["10.1.0.0.1"]}}}, "args.cni.ips=", "10.1.0.0.1"),
        ({"runtimeConfig": {"aliases": "db"}}, "runtimeConfig.aliases=", "db"),
        ({"prevResult": {"ips": "many"}}, "prevResult.ips=", "many"),
    ],
)
def test_bad_configuration_is_code_7_and_names_key_and_value(changes, field, value):
    answer = call(**changes)
    assert answer["code"] == 7
    assert field in answer["msg"]
    assert value in answer["msg"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vlan": 100}, "vlan=100"),
        ({"promiscMode": True}, "promiscMode=True"),
        ({"portIsolation": True}, "portIsolation=True"),
    ],
)
def test_known_option_that_is_not_served_is_code_2(changes, named):
    answer = call(**changes)
    assert (answer["code"], named in answer["msg"]) == (2, True)


@pytest.mark.parametrize("version", ["1.2.0", "0.5.0", "nonsense", "2"])
def test_unserved_version_is_code_1(version):
    answer = call(cniVersion=version)
    assert (answer["code"], answer["msg"]) == (1, "incompatible CNI versions")
    assert f'config is "{version}"' in answer["details"]


@pytest.mark.parametrize("version", spec.SUPPORTED)
def test_error_object_carries_the_configurations_version(version):
    assert call(cniVersion=version, mtu=1)["cniVersion"] == version


def test_version_needs_neither_stdin_nor_variables():
    answer = call({"CNI_COMMAND": "VERSION"}, stdin=b"")
    served = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert answer == {"cniVersion": "1.1.0", "supportedVersions": served, "exit": 0}


@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_a_command_before_its_version_is_code_1(command, version):
    answer = call(ENVIRONMENT | {"CNI_COMMAND": command}, cniVersion=version)
    assert (answer["code"], answer["msg"]) == (1, f"config version does not allow {command}")


@pytest.mark.parametrize("listed", ["all", [{"ifname": "eth0"}], [{"containerID": 7, "ifname": "eth0"}], [None]])
def test_a_list_of_valid_attachments_that_cannot_be_read_deletes_nothing(listed):
    changes = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": listed}
    answer = call({"CNI_COMMAND": "GC", "CNI_PATH": "/opt/cni/bin"}, **changes)
    assert (answer["code"], "cni.dev/valid-attachments=" in answer["msg"]) == (7, True)


# A busy machine is no fault of the plugin.
LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)


@LAW
@given(st.dictionaries(st.sampled_from(["cniVersion", "name", "mtu", "ipam", "bridge", "prevResult", "dns"]), JSON))
def test_law_any_configuration_gets_an_error_object_never_a_crash(changes):
    changes.setdefault("mtu", 1)  # never a valid one: nothing may reach the node
    answer = call(**changes)
    assert answer["exit"] == 1
    assert answer["code"] in {1, 2, 6, 7}


@LAW
@given(st.dictionaries(st.sampled_from(sorted(ENVIRONMENT)), st.text(max_size=20)))
def test_law_any_environment_gets_an_error_object_never_a_crash(variables):
    answer = call(ENVIRONMENT | variables, mtu=1)
    assert answer["exit"] == 0 or answer["code"] in {4, 7}
