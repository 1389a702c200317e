"""Loading br_netfilter: once, and without a change for bridges that did not ask for it."""

import pytest

from dataplane import bridge_netfilter, sysctl


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A /proc/sys of the test's own, and a modprobe that loads the module there."""
    switches = tmp_path / "sys/net/bridge"
    # As the real one does: the kernel's switches begin with 1, and a module that is there is an error the first time.
    program(
        tmp_path / "modprobe",
        f"""[ "$*" = "--first-time br_netfilter" ] || exit 2
        mkdir -p {switches.parent} && mkdir {switches} || exit 1
        for tool in iptables ip6tables arptables; do echo 1 >{switches}/bridge-nf-call-$tool; done""",
    )
    program(tmp_path / "configured", "exit 0")
    monkeypatch.setattr(sysctl, "ROOT", tmp_path / "sys")
    monkeypatch.setattr(bridge_netfilter, "CONFIGURED", (tmp_path / "configured",))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return switches


def program(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def switches_of(machine):
    return {path.name.removeprefix("bridge-nf-call-"): path.read_text().strip() for path in machine.iterdir()}


def test_a_module_that_is_absent_is_loaded_and_other_bridges_stay_as_they_were(machine):
    assert bridge_netfilter.load()
    assert switches_of(machine) == {"iptables": "0", "ip6tables": "0", "arptables": "0"}


def test_where_it_is_loaded_the_administrators_choice_stays(machine):
    machine.mkdir(parents=True)
    (machine / "bridge-nf-call-iptables").write_text("1")

    assert bridge_netfilter.load()
    assert switches_of(machine) == {"iptables": "1"}


def test_where_somebody_else_loads_it_in_the_same_moment_theirs_stays(machine, tmp_path):
    """Between our look and our modprobe."""
    modprobe = (tmp_path / "modprobe").read_text().removeprefix("#!/bin/sh\n")
    program(
        tmp_path / "modprobe", f"mkdir -p {machine} && echo 1 >{machine}/bridge-nf-call-iptables || exit 3\n{modprobe}"
    )

    assert bridge_netfilter.load()
    assert switches_of(machine) == {"iptables": "1"}


def test_what_the_administrator_has_put_into_sysctl_d_holds(machine, tmp_path):
    program(tmp_path / "configured", f"echo 1 >{machine}/bridge-nf-call-iptables")

    assert bridge_netfilter.load()
    assert switches_of(machine) == {"iptables": "1", "ip6tables": "0", "arptables": "0"}


def test_where_it_cannot_be_loaded_that_is_told(machine, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    assert not bridge_netfilter.load()
