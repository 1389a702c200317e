"""`podwire ipam`: what a person sees, and what an import takes over."""

import json
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest
from click.testing import CliRunner

from cli.__main__ import main
from cni import leftovers
from ipam.forecast import Churn, full_in
from ipam.lease import Attachment, Claim, Sandbox
from ipam.leases import Leases
from ipam.pool import Pool
from tests.cni_node import FakeNode

SUBNET = "10.244.1.0/24"


def run(*arguments):
    done = CliRunner().invoke(main, ["ipam", *map(str, arguments)])
    return done.exit_code, done.output


def give(directory, container):
    claim = Claim(
        attachment=Attachment(network="net", container_id=container, ifname="eth0"),
        token=container,
        sandbox=Sandbox(device=0, inode=0, boot_id="boot"),
        host_veth="",
        owner=f"default/{container}",
    )
    with Leases(directory) as leases:
        return leases.assign([[Pool.of(ip_network(SUBNET))]], claim)


@pytest.fixture
def folder(tmp_path):
    """What host-local left: two pods, one of them with two addresses, and a file that a crash emptied."""
    made = tmp_path / "mynet"
    made.mkdir()
    for name, text in {
        "10.244.1.5": "aaa\r\neth0",
        "fd00:244::5": "aaa\r\neth0",
        "10.244.1.6": "bbb",
        "10.244.1.7": "",
        "last_reserved_ip.0": "10.244.1.7",
        "lock": "",
    }.items():
        (made / name).write_text(text)
    return made


def imported(folder, directory):
    return run("import", folder, "--subnet", SUBNET, "--subnet", "fd00:244::/64", "--data-dir", directory)


def test_list_shows_address_and_owner(tmp_path):
    give(tmp_path, "web")
    code, output = run("ls", "--data-dir", tmp_path)
    assert code == 0
    assert output.splitlines()[1].split() == ["net", "10.244.1.1", "default/web", "web", "eth0", "pending"]


def test_history_shows_who_has_the_address_now(tmp_path):
    give(tmp_path, "web")
    code, output = run("history", "10.244.1.1", "--data-dir", tmp_path)
    assert (code, "now" in output, "default/web" in output) == (0, True, True)


def test_history_of_a_moment_before_says_that_nobody_had_it(tmp_path):
    give(tmp_path, "web")
    _, output = run("history", "10.244.1.1", "--at", "2001-01-01T14:05", "--data-dir", tmp_path)
    assert output.startswith("nobody had 10.244.1.1 at 2001-01-01 14:05:00")


@pytest.mark.parametrize("arguments", [["history", "10.244"], ["history", "10.244.1.1", "--at", "teatime"]])
def test_what_cannot_be_read_is_named(arguments):
    code, output = run(*arguments)
    assert (code, arguments[-1] in output) == (2, True)


def test_absent_file_is_said_and_not_made(tmp_path):
    code, output = run("ls", "--data-dir", tmp_path / "none")
    assert (code, "no lease file" in output, (tmp_path / "none").exists()) == (1, True, False)


def test_import_takes_over_every_address_and_says_which_is_lost(tmp_path, folder):
    code, output = imported(folder, tmp_path / "leases")
    assert code == 0
    assert "2 of 2 leases of network mynet are new" in output
    assert "10.244.1.7 belongs to nobody" in output
    with Leases(tmp_path / "leases") as leases:
        held = {lease.claim.attachment.container_id: lease.listed for lease in leases.of("mynet")}
    assert held == {"aaa": "10.244.1.5, fd00:244::5", "bbb": "10.244.1.6"}


def test_import_may_be_repeated(tmp_path, folder):
    imported(folder, tmp_path / "leases")
    assert "0 of 2 leases" in imported(folder, tmp_path / "leases")[1]


def test_imported_addresses_are_not_given_again(tmp_path, folder):
    imported(folder, tmp_path / "leases")
    pool = Pool.of(ip_network(SUBNET), first=ip_address("10.244.1.5"), last=ip_address("10.244.1.7"))
    claim = Claim(
        attachment=Attachment(network="mynet", container_id="new", ifname="eth0"),
        token="t",
        sandbox=Sandbox(device=0, inode=0, boot_id="boot"),
        host_veth="",
        owner="",
    )
    with Leases(tmp_path / "leases") as leases:
        assert str(leases.assign([[pool]], claim).address) == "10.244.1.7"


def test_import_of_an_address_outside_the_subnets_imports_nothing(tmp_path, folder):
    code, output = run("import", folder, "--subnet", SUBNET, "--data-dir", tmp_path / "leases")
    assert (code, "fd00:244::5 is in no --subnet" in output) == (1, True)
    assert not (tmp_path / "leases").exists()


def test_import_that_contradicts_a_lease_imports_nothing(tmp_path, folder):
    imported(folder, tmp_path / "leases")
    (folder / "10.244.1.6").write_text("ccc\r\neth0")
    (folder / "10.244.1.4").write_text("ddd\r\neth0")
    code, output = imported(folder, tmp_path / "leases")
    assert (code, "10.244.1.6 is already in use by bbb/eth0" in output) == (1, True)
    with Leases(tmp_path / "leases") as leases:
        assert len(leases.of("mynet")) == 2


def test_imported_leases_are_never_swept_but_end_with_their_delete(tmp_path, folder):
    node = FakeNode(tmp_path / "leases")
    folder.rename(tmp_path / "net")
    imported(tmp_path / "net", node.directory)
    with Leases(node.directory) as leases:
        before = leases.of("net")
        leases._file._sql.execute("UPDATE leases SET boot_id = ?", (node.boot_id,))
        leases._file._sql.execute("UPDATE boot SET id = ?", (node.boot_id,))
    assert leftovers.sweep("net", node.directory, node.host()) == ()
    assert len(before) == 2
    node.call("DEL", node.pod("aaa"))
    assert set(node.leased()) == {"bbb"}


def conflist(path, directory, **ipam):
    ranges = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/29"}], [{"subnet": "fd00::/64"}]]}
    plugin = {"type": "podwire", "dataDir": str(directory), "ipam": {**ranges, **ipam}}
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "other"}, plugin]}))
    return path


def test_usage_tells_what_is_left_and_how_long_it_lasts(tmp_path):
    node = FakeNode(tmp_path)
    for name in ("web", "db", "gone"):
        node.call("ADD", node.pod(name), ipam={"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/29"}]]})
    node.call("DEL", node.pods["/run/netns/gone"])
    code, output = run("usage", "--conf", conflist(tmp_path / "conf", tmp_path))
    rows = [line.split() for line in output.splitlines()[1:]]
    assert (code, rows[0]) == (0, ["net", "10.244.1.0/29", "2", "1", "3", "+3", "-1", "90", "min"])
    assert rows[1][-1] == "never"


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ('{"plugins": [{"type": "bridge"}]}', "no plugin of it is podwire")]
)
def test_usage_names_a_configuration_it_cannot_use(tmp_path, text, said):
    (tmp_path / "conf").write_text(text)
    code, output = run("usage", "--conf", tmp_path / "conf")
    assert (code, said in output, str(tmp_path / "conf") in output) == (1, True, True)


def test_addresses_that_get_no_fewer_last_for_ever():
    assert full_in(5, Churn(given=7, released=7)) is None
    assert full_in(0, Churn(given=0, released=0)) == timedelta()
    assert full_in(5, Churn(given=12, released=2)) == timedelta(minutes=30)
