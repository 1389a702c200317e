"""Which address families are served."""

from pathlib import Path

import pytest

from dataplane import sysctl
from dataplane.nft.objects import Family
from proxy import supported


@pytest.fixture
def switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/sys to write to."""
    monkeypatch.setattr(sysctl, "ROOT", tmp_path)
    switch = tmp_path / "net/ipv6/conf/all/disable_ipv6"
    switch.parent.mkdir(parents=True)
    return switch


def test_a_kernel_without_ipv6_has_ipv4(tmp_path):
    assert supported.families(tmp_path / "if_inet6") == (Family.IP,)


@pytest.mark.parametrize(
    ("value", "expected"), [("0", (Family.IP, Family.IP6)), ("1", (Family.IP,)), (None, (Family.IP,))]
)
def test_ipv6_is_served_unless_it_is_switched_off(switches, tmp_path, value, expected):
    (tmp_path / "if_inet6").touch()
    if value:
        switches.write_text(value)

    assert supported.families(tmp_path / "if_inet6") == expected
