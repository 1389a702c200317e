"""Loading br_netfilter: once, and without a change for bridges that did not ask for it."""

import pytest

from dataplane import bridge_netfilter, sysctl


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A /proc/sys of the test's own, and a modprobe that loads the module there."""
    switches = tmp_path / "sys/net/bridge"
    (tmp_path / "modprobe").write_text(
        f'#!/bin/sh\n[ "$1" = br_netfilter ] && mkdir -p {switches} && cd {switches} && echo 1 >bridge-nf-call-iptables'
        " && echo 1 >bridge-nf-call-ip6tables\n"
    )
    (tmp_path / "modprobe").chmod(0o755)
    monkeypatch.setattr(sysctl, "ROOT", tmp_path / "sys")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return switches


def test_a_module_that_is_absent_is_loaded_and_other_bridges_stay_as_they_were(machine):
    assert bridge_netfilter.load()
    assert {path.read_text().strip() for path in machine.iterdir()} == {"0"}


def test_where_it_is_loaded_the_administrators_choice_stays(machine):
    machine.mkdir(parents=True)
    (machine / "bridge-nf-call-iptables").write_text("1")

    assert bridge_netfilter.load()
    assert (machine / "bridge-nf-call-iptables").read_text() == "1"


def test_where_it_cannot_be_loaded_that_is_told(machine, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    assert not bridge_netfilter.load()
