"""A lab's folder."""

import multiprocessing
import shutil
import socket
import threading
from ipaddress import IPv4Network, IPv6Network

import pytest

from lab import plan, state
from lab.errors import LabError, MissingLabError, OptionError
from lab.plan import Lab


@pytest.fixture
def lab(tmp_path):
    return Lab(
        name="blue",
        directory=tmp_path / "blue",
        node_count=3,
        api_port=7443,
        cluster_cidrs=(IPv4Network("10.1.0.0/16"), IPv6Network("fd00:1::/56")),
        service_cidrs=(IPv4Network("10.2.0.0/16"), IPv6Network("fd00:2::/112")),
    )


def test_a_second_shell_reads_the_same_lab(lab, tmp_path):
    state.save(lab)

    assert lab == state.load(tmp_path, "blue")


def test_a_missing_lab_is_named_with_the_labs_there_are(lab, tmp_path):
    state.save(lab)

    with pytest.raises(MissingLabError) as missing:
        state.load(tmp_path, "red")
    assert "'red'" in str(missing.value)
    assert "blue" in str(missing.value)
    assert f"podwire lab up --name red --state-root {tmp_path}" in str(missing.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"name": "blue"}', b'{"name": 1}'])
def test_a_damaged_file_is_named_with_what_to_do(lab, tmp_path, content):
    lab.directory.mkdir()
    (lab.directory / "lab.json").write_bytes(content)

    with pytest.raises(LabError) as damaged:
        state.load(tmp_path, "blue")
    assert str(lab.directory / "lab.json") in str(damaged.value)
    assert "podwire lab down --name blue" in str(damaged.value)


def test_a_name_never_leads_out_of_the_state_root(tmp_path):
    with pytest.raises(OptionError, match="--name"):
        state.directory(tmp_path, "../etc")


def test_labs_are_listed_in_order(lab, tmp_path):
    state.save(lab)
    (tmp_path / "amber").mkdir()
    (tmp_path / "amber" / "lab.json").write_bytes(b"{damaged")

    assert state.names(tmp_path) == ("amber", "blue")
    assert state.names(tmp_path / "nowhere") == ()


def test_two_commands_do_not_change_a_lab_at_once(lab):
    with (
        state.locked(lab.directory),
        pytest.raises(LabError, match="another podwire command"),
        state.locked(lab.directory),
    ):
        pass


def test_the_lock_is_free_again_after_a_command_failed(lab):
    with pytest.raises(ValueError), state.locked(lab.directory):
        raise ValueError

    with state.locked(lab.directory):
        pass


def hold_lock(folder, locked):
    with state.locked(folder):
        locked.set()
        threading.Event().wait()


def test_the_lock_of_a_killed_command_is_free(lab):
    context = multiprocessing.get_context("spawn")
    locked = context.Event()
    holder = context.Process(target=hold_lock, args=(lab.directory, locked))
    holder.start()
    assert locked.wait(60)
    holder.kill()
    holder.join()

    with state.locked(lab.directory):
        pass


def test_a_lock_on_a_removed_folder_is_no_lock(lab):
    with state.locked(lab.directory):
        shutil.rmtree(lab.directory)
        with state.locked(lab.directory):
            assert lab.directory.is_dir()


def test_a_stopped_component_stays_stopped_until_started(lab):
    state.make_folders(lab)
    proxy = plan.components(lab, "python")[2]

    state.set_stopped(lab, proxy, stopped=True)
    assert [proxy] == [each for each in plan.components(lab, "python") if state.is_stopped(lab, each)]

    state.set_stopped(lab, proxy, stopped=False)
    assert not state.is_stopped(lab, proxy)


def test_a_port_somebody_listens_on_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]

        assert not state.is_port_free(taken)
        assert taken < state.free_port(taken)


def test_removing_the_last_lab_removes_the_folder_of_labs(lab, tmp_path):
    root = tmp_path / "labs"
    for name in ("blue", "red"):
        (root / name).mkdir(parents=True)

    state.remove_folder(root / "blue")
    assert root.is_dir()

    state.remove_folder(root / "red")
    state.remove_folder(root / "red")
    assert not root.exists()


def test_what_its_pods_are_is_kept(tmp_path):
    lab = Lab(name="lab", directory=tmp_path, node_count=1, api_port=6443, runtime="containerd")
    state.save(lab)

    assert state.load_directory(tmp_path) == lab
