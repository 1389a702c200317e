"""Bad flags end podwire-node with one clear line, before it touches anything."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from node.__main__ import main


def refusal(*arguments: str) -> str:
    result = CliRunner(env={"KUBERNETES_SERVICE_HOST": None}).invoke(main, arguments)
    assert result.exit_code != 0
    return result.output.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["Node", "a_b", "-a", "a..b", "", "a" * 254])
def test_a_name_the_api_would_refuse_is_refused(name: str) -> None:
    line = refusal("--node-name", name)
    assert "--node-name" in line
    assert repr(name) in line


@pytest.mark.parametrize("address", ["192.0.2.256", "node.example", "127.0.0.1", "::", "224.0.0.1", "192.0.2.1/24"])
def test_an_address_nobody_can_reach_is_refused(address: str) -> None:
    line = refusal("--node-ip", address)
    assert "--node-ip" in line
    assert repr(address) in line


def test_an_absent_kubeconfig_is_named() -> None:
    assert "/nowhere/kubeconfig" in refusal("--kubeconfig", "/nowhere/kubeconfig")


def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("just text")
    assert str(path) in refusal("--kubeconfig", str(path))


def test_outside_a_pod_the_kubeconfig_is_asked_for() -> None:
    assert "--kubeconfig is not given" in refusal()


def test_an_unknown_flag_is_named() -> None:
    assert "--node-nam" in refusal("--node-nam", "x")
