"""The configuration file of kube-proxy, its flags, and Go's durations."""

import contextlib
import math
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy import durations, flags
from proxy.__main__ import main
from proxy.configuration import ConfigurationError, KubeProxyConfiguration, bind_address, parse, to_yaml

HEADER = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
FILE = Path("/etc/kube-proxy.yaml")
# What kubeadm writes into the ConfigMap kube-proxy.
KUBEADM = """
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: ""
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
ipvs:
  excludeCIDRs: null
  scheduler: ""
  strictARP: false
logging:
  flushFrequency: 0
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  networkName: ""
"""


def read(text: str) -> KubeProxyConfiguration:
    return parse((HEADER + text).encode(), FILE)[0]


def remarks(text: str) -> dict[str, str]:
    return {item.field: item.reason for item in parse((HEADER + text).encode(), FILE)[1]}


def test_an_empty_file_is_the_defaults():
    assert read("") == KubeProxyConfiguration()


def test_the_file_of_kubeadm_is_read_and_needs_next_to_no_remark():
    configuration = read(KUBEADM)

    assert configuration.client_connection.kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf"
    assert configuration.conntrack == KubeProxyConfiguration().conntrack
    assert set(remarks(KUBEADM)) <= {"bindAddress", "configSyncPeriod"}


def test_values_are_taken_from_the_file():
    configuration = read(
        "hostnameOverride: n1\nmetricsBindAddress: '[::]:9'\nconntrack: {tcpEstablishedTimeout: 1h30m, min: 5}"
    )

    assert configuration.hostname_override == "n1"
    assert configuration.metrics_address == ("::", 9)
    assert (configuration.conntrack.tcp_established_timeout, configuration.conntrack.min) == (5400, 5)


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        ("ipvs: {strictARP: true}", "ipvs.strictARP", "mode ipvs"),
        ("iptables: {masqueradeBit: 14}", "iptables.masqueradeBit", "mode iptables"),
        ("winkernel: {networkName: x}", "winkernel.networkName", "mode kernelspace"),
        ("mode: iptables", "mode", "always uses nftables"),
        ("featureGates: {A: true}", "featureGates.A", "has none"),
        ("conntrack: {mni: 5}", "conntrack.mni", "does not know this field"),
        ("nonsense: null\nmodes: ''", "modes", "does not know this field"),
    ],
)
def test_what_changes_nothing_is_named_with_the_reason(text, field, reason):
    assert reason in remarks(text)[field]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("conntrack: {min: many}", "conntrack.min 'many': expected `int`, got `str`"),
        ("conntrack: {udpTimeout: 3}", "conntrack.udpTimeout 3: use a duration such as 30s"),
        ("conntrack: {udpTimeout: -3s}", "conntrack.udpTimeout -3.0: must not be negative"),
        ("conntrack: {maxPerCore: -1}", "conntrack.maxPerCore -1: must not be negative"),
        ("mode: userspace", "mode 'userspace': must be nftables"),
        ("healthzBindAddress: here", "healthzBindAddress 'here': use ADDRESS:PORT"),
        ("metricsBindAddress: host:1", "metricsBindAddress 'host:1': 'host' does not appear to be"),
        ("oomScoreAdj: 1001", "oomScoreAdj 1001: must be between -1000 and 1000"),
        ("hostnameOverride: ' '", "hostnameOverride ' ': must name this node"),
        ("conntrack: []", "conntrack []: expected `object`"),
        ("a: b: c", "is not YAML"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_field_value_and_remedy(text, complaint):
    with pytest.raises(ConfigurationError) as caught:
        read(text)

    assert str(caught.value).startswith(f"{FILE}: {complaint}")


@pytest.mark.parametrize("text", ["", "[]", "kind: KubeProxyConfiguration", HEADER.replace("v1alpha1", "v1")])
def test_a_file_of_another_kind_is_an_error(text):
    with pytest.raises(ConfigurationError):
        parse(text.encode(), FILE)


@given(st.binary(max_size=60))
def test_garbage_is_an_error_or_a_configuration(text):
    with contextlib.suppress(ConfigurationError):
        assert isinstance(parse(HEADER.encode() + text, FILE)[0], KubeProxyConfiguration)


def test_what_is_written_is_read_back():
    configuration = read("hostnameOverride: n1\nconntrack: {udpTimeout: 1500ms}")

    assert parse(to_yaml(configuration), FILE) == (configuration, ())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        ("0.0.0.0:10256", ("0.0.0.0", 10256)),
        ("10.0.0.1", ("10.0.0.1", 9)),
        ("::", ("::", 9)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_an_address_without_port_gets_the_usual_one(text, address):
    assert bind_address(text, 9) == address


# --- durations


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("0s", 0), ("1h0m0s", 3600), ("1.5h", 5400), ("250ms", 0.25), ("-1m", -60)]
)
def test_durations_are_gos(text, seconds):
    assert math.isclose(durations.parse(text), seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1d", "1h 2m", "１s", "1..5s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="such as 30s"):
        durations.parse(text)


# --- flags


def test_a_flag_sets_its_field():
    given = {"conntrack__min": 7, "conntrack__maxPerCore": None, "hostnameOverride": "n1"}

    assert flags.configuration(given) == read("conntrack: {min: 7}\nhostnameOverride: n1")


def test_beside_a_file_only_the_nodes_name_and_verbosity_count():
    given = {"conntrack__min": 7, "hostnameOverride": "n1", "logging__verbosity": 4}
    configuration, unused = flags.over(read("hostnameOverride: n2\nconntrack: {min: 9}"), given)

    assert configuration == read("hostnameOverride: n1\nconntrack: {min: 9}\nlogging: {verbosity: 4}")
    assert unused == ("--conntrack-min",)


def test_the_configuration_in_effect_can_be_written(tmp_path):
    target = tmp_path / "written.yaml"
    done = CliRunner().invoke(main, ["--conntrack-min=7", f"--write-config-to={target}"])

    assert done.exit_code == 0
    assert parse(target.read_bytes(), target)[0].conntrack.min == 7


def test_every_flag_stands_for_a_field_that_is_served():
    samples = {bool: True, int: 1}
    special = {
        "clusterCIDR": "10.0.0.0/8",
        "nodePortAddresses": ("10.0.0.0/8",),
        "detectLocalMode": "NodeCIDR",
        "detectLocal.bridgeInterface": "cbr0",
        "iptables.localhostNodePorts": False,
    }
    for flag in flags.FLAGS:
        value = "5s" if isinstance(flag.type, flags.DurationType) else samples.get(flag.type, "127.0.0.1:1")
        value = special.get(flag.field, value)
        assert flags.configuration({flag.parameter: value}) != KubeProxyConfiguration(), flag.name


def test_of_the_section_iptables_node_ports_at_localhost_count():
    head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    section = "iptables: {localhostNodePorts: false, masqueradeAll: true}"
    configuration, ignored = parse(f"{head}{section}".encode(), Path("config"))

    assert not configuration.iptables.localhost_node_ports
    assert [item.field for item in ignored] == ["iptables.masqueradeAll"]


@pytest.mark.parametrize(("given", "expected"), [([], True), (["=true"], True), (["=false"], False), ([""], True)])
def test_a_switch_is_spelled_as_kube_proxys(given, expected):
    said = []

    @click.command()
    @flags.options
    def command(**values: object) -> None:
        said.append(flags.configuration(values).iptables.localhost_node_ports)

    CliRunner().invoke(command, [f"--iptables-localhost-nodeports{end}" for end in given], catch_exceptions=False)

    assert said == [expected]
