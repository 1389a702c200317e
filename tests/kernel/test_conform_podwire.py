"""podwire's own plugin under the conformance kit: every check, as the executable a runtime starts."""

from pathlib import Path

import pytest

from cni import install, spec
from cni.conform import judge, kit
from cni.conform.check import carry_out
from cni.conform.verdict import Verdict
from tests.cni_plugin import PYTHON
from tests.waiting import PATIENCE

REFERENCE = Path("/usr/lib/cni")
DELEGATED = {
    "cniVersion": "1.0.0",
    "type": "podwire",
    "bridge": "conform0",
    "isDefaultGateway": False,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.213.0.0/24"}]], "routes": [{"dst": "198.51.100.0/24"}]},
}
# Not del.after-killed-add: host-local, killed between making a file and writing to it, loses the address.
WITH_DELEGATION = ("add.", "check.", "pool.", "del.f", "del.netns", "del.o", "del.prev", "del.removes", "del.twice")


@pytest.fixture(scope="module")
def executable(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("podwire")
    return install.install(directory / "bin", PYTHON, directory / "no-agent.sock")


@pytest.fixture(scope="module")
def podwire(executable):
    return kit.subject(executable, patience=60 * PATIENCE)


def test_every_version_is_advertised_so_that_no_check_is_skipped(podwire):
    assert podwire.versions == spec.SUPPORTED == judge.KNOWN_VERSIONS


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.id)
def test_podwire_conforms(podwire, check):
    finding = carry_out(check, podwire)
    assert finding.verdict is Verdict.PASS, finding.seen


@pytest.mark.parametrize("check", kit.selected(WITH_DELEGATION), ids=lambda check: check.id)
def test_podwire_conforms_when_another_plugin_gives_the_addresses(executable, check):
    finding = carry_out(check, kit.subject(executable, conf=DELEGATED, cni_path=str(REFERENCE), patience=60 * PATIENCE))
    assert finding.verdict is Verdict.PASS, finding.seen
