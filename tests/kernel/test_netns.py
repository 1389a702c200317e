"""Namespaces as `ip netns` sees them, and threads that enter them."""

import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataplane import netns, sysctl
from dataplane.errors import AlreadyExists, DataplaneError, NotFound
from tests.namespaces import Namespace

MakeNamespace = Callable[[str], Namespace]


@pytest.fixture
def name() -> Iterator[str]:
    """A free name; whatever has it at the end is removed."""
    name = f"pwt-netns-{secrets.token_hex(4)}"
    yield name
    netns.delete(name)


def listed() -> set[str]:
    """The names `ip netns` shows, without the ids it adds."""
    lines = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[0] for line in lines}


def test_a_created_namespace_is_one_of_ip_netns(name: str) -> None:
    netns.create(name)
    assert name in listed()
    assert " lo: " in subprocess.run(["ip", "-n", name, "link"], capture_output=True, text=True, check=True).stdout


def test_a_deleted_namespace_is_gone(name: str) -> None:
    path = netns.create(name)
    netns.delete(name)
    assert name not in listed()
    assert not path.exists()


def test_a_namespace_of_ip_netns_can_be_deleted(name: str) -> None:
    subprocess.run(["ip", "netns", "add", name], check=True)
    netns.delete(name)
    assert name not in listed()


def test_deleting_an_absent_namespace_succeeds(name: str) -> None:
    netns.delete(name)


def test_a_taken_name_is_refused_and_its_namespace_kept(name: str) -> None:
    with netns.open_netns(netns.create(name)) as first:
        with pytest.raises(AlreadyExists, match=name):
            netns.create(name)
        with netns.open_netns(netns.DIRECTORY / name) as again:
            assert again.identity == first.identity


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "../etc/passwd"])
def test_a_name_that_leads_elsewhere_is_refused(bad: str) -> None:
    with pytest.raises(DataplaneError, match="must be a single file name"):
        netns.create(bad)
    with pytest.raises(DataplaneError, match="must be a single file name"):
        netns.delete(bad)


def test_a_file_left_by_a_killed_creation_can_be_deleted(name: str) -> None:
    (netns.DIRECTORY / name).touch()
    netns.delete(name)
    assert name not in listed()


def test_a_file_without_a_namespace_is_not_found(name: str) -> None:
    (netns.DIRECTORY / name).touch()
    with pytest.raises(NotFound, match="no namespace is mounted"):
        netns.open_netns(netns.DIRECTORY / name)


@pytest.mark.parametrize("path", ["/run/netns/there-is-none", "/proc/0/ns/net", "/run/netns/a/b"])
def test_a_path_to_nothing_is_not_found(path: str) -> None:
    with pytest.raises(NotFound, match=path):
        netns.open_netns(path)


def test_many_namespaces_can_be_created_at_once(name: str) -> None:
    names = [f"{name}-{number}" for number in range(16)]
    threads = [threading.Thread(target=netns.create, args=(each,)) for each in names]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(names) <= listed()
        assert len({(netns.DIRECTORY / each).stat().st_ino for each in names}) == 16
    finally:
        for each in names:
            netns.delete(each)


def test_the_callers_thread_stays_where_it_is(make_namespace: MakeNamespace) -> None:
    before = netns.current_identity()
    with netns.open_netns(make_namespace("ns").path) as opened:
        inside = netns.run_in(opened.fd, netns.current_identity)
        assert inside == opened.identity
    assert netns.current_identity() == before != inside


def test_creating_leaves_the_callers_thread_where_it_is(name: str) -> None:
    before = netns.current_identity()
    netns.create(name)
    assert netns.current_identity() == before


def test_what_the_function_raises_is_raised_here(make_namespace: MakeNamespace) -> None:
    with netns.open_netns(make_namespace("ns").path) as opened, pytest.raises(ZeroDivisionError):
        netns.run_in(opened.fd, lambda: 1 // 0)


def test_a_descriptor_that_is_no_namespace_is_refused() -> None:
    with open(os.devnull) as file, pytest.raises(DataplaneError, match="setns"):
        netns.run_in(file.fileno(), lambda: None)


def test_a_socket_opened_inside_stays_inside(make_namespace: MakeNamespace) -> None:
    namespace = make_namespace("ns")
    with netns.open_netns(namespace.path) as opened:
        server = netns.run_in(opened.fd, lambda: socket.create_server(("127.0.0.1", 0)))
    with server:
        port = str(server.getsockname()[1])
        assert f":{port} " in namespace.run("ss", "-ltnH")


def test_two_paths_of_one_namespace_have_one_identity(make_namespace: MakeNamespace, tmp_path: Path) -> None:
    namespace = make_namespace("ns")
    (tmp_path / "link").symlink_to(namespace.path)
    with netns.open_netns(namespace.path) as one, netns.open_netns(tmp_path / "link") as other:
        assert one.identity == other.identity


def test_the_cookie_tells_namespaces_apart_even_when_the_inode_comes_back(name: str) -> None:
    seen = []
    for _ in range(3):
        with netns.open_netns(netns.create(name)) as opened:
            seen.append(netns.cookie(opened.fd))
        netns.delete(name)
    assert len(set(seen)) == 3


def test_an_open_namespace_outlives_its_name(name: str) -> None:
    with netns.open_netns(netns.create(name)) as opened:
        netns.delete(name)
        assert netns.run_in(opened.fd, netns.current_identity) == opened.identity


def test_the_boot_id_is_the_kernels() -> None:
    assert netns.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_no_descriptor_and_no_thread_is_left(make_namespace: MakeNamespace) -> None:
    namespace = make_namespace("ns")

    def use() -> None:
        with netns.open_netns(namespace.path) as opened:
            netns.run_in(opened.fd, lambda: None)

    use()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(100):
        use()
    # What an earlier test left may end meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before[0]
    assert threading.active_count() <= before[1]


def test_a_namespace_made_in_another_mount_namespace_can_be_deleted_here(name: str) -> None:
    """As when a service manager gives the agent a mount namespace of its own."""
    code = f"from dataplane import netns; netns.create({name!r})"
    subprocess.run(["unshare", "--mount", "--propagation", "slave", sys.executable, "-c", code], check=True)
    netns.delete(name)
    assert name not in listed()


def test_a_switch_is_the_namespaces_own(make_namespace: MakeNamespace) -> None:
    outside = sysctl.read("net/ipv4/ip_forward")
    namespace = make_namespace("ns")
    with netns.open_netns(namespace.path) as opened:
        other = "0" if outside == "1" else "1"
        netns.run_in(opened.fd, lambda: sysctl.write("net/ipv4/ip_forward", other))
        assert netns.run_in(opened.fd, lambda: sysctl.read("net/ipv4/ip_forward")) == other
    assert sysctl.read("net/ipv4/ip_forward") == outside


def test_writing_a_switch_tells_whether_that_changed_it(make_namespace: MakeNamespace) -> None:
    with netns.open_netns(make_namespace("ns").path) as opened:
        written = [netns.run_in(opened.fd, lambda: sysctl.write("net/ipv4/conf/lo/rp_filter", 2)) for _ in range(2)]
    assert written == [True, False]


def test_a_switch_this_kernel_does_not_have_is_named() -> None:
    with pytest.raises(NotFound, match=r"/proc/sys/net/ipv4/nosuch.*is its module loaded"):
        sysctl.read("net/ipv4/nosuch")


def test_a_value_the_kernel_refuses_is_named(make_namespace: MakeNamespace) -> None:
    with (
        netns.open_netns(make_namespace("ns").path) as opened,
        pytest.raises(DataplaneError, match=r"write maybe to /proc/sys/net/ipv4/ip_forward"),
    ):
        netns.run_in(opened.fd, lambda: sysctl.write("net/ipv4/ip_forward", "maybe"))


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "net/../../etc/passwd"])
def test_a_switch_outside_proc_sys_is_refused(bad: str) -> None:
    with pytest.raises(DataplaneError, match="must be a path below /proc/sys"):
        sysctl.write(bad, 1)
