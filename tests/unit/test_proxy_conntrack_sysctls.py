"""Which conntrack settings follow from the configuration, and what becomes of those that cannot be made."""

import pytest

from dataplane import sysctl
from proxy import conntrack_sysctls
from proxy.configuration import Conntrack
from proxy.conntrack_sysctls import connections, wanted
from proxy.durations import Duration

NOTHING = Conntrack(max_per_core=0, tcp_established_timeout=Duration(0), tcp_close_wait_timeout=Duration(0))


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, 131_072), (4, 131_072), (5, 163_840), (32, 1_048_576), (128, 1_048_576)]
)
def test_the_table_grows_with_the_cores_between_two_limits(cores, expected):
    assert connections(Conntrack(), cores) == expected


def test_what_is_zero_is_left_alone():
    assert wanted(NOTHING, cores=4) == ()


def test_the_defaults_are_kube_proxys():
    assert {
        setting.switch.rpartition("nf_conntrack_")[2]: setting.value for setting in wanted(Conntrack(), cores=2)
    } == {
        "max": 131072,
        "tcp_timeout_established": 86400,
        "tcp_timeout_close_wait": 3600,
    }


def test_the_optional_settings_are_made_when_asked_for():
    asked = Conntrack(tcp_be_liberal=True, udp_timeout=Duration(30), udp_stream_timeout=Duration(120))
    found = {setting.switch.rpartition("nf_conntrack_")[2]: setting.value for setting in wanted(asked, cores=2)}

    assert (found["tcp_be_liberal"], found["udp_timeout"], found["udp_timeout_stream"]) == (1, 30, 120)


def test_a_kernel_without_conntrack_is_said_and_survived(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sysctl, "ROOT", tmp_path)
    conntrack_sysctls.apply(Conntrack())

    assert capsys.readouterr().out.count("a conntrack setting stays as it is") == 3
