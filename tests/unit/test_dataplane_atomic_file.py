import os
import threading
from pathlib import Path

import pytest

from dataplane import atomic_file


def test_an_absent_file_is_empty(tmp_path: Path) -> None:
    assert atomic_file.read(tmp_path / "none") == b""


def test_folders_are_made_and_the_content_is_there(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "a" / "b", b"text")
    assert atomic_file.read(tmp_path / "a" / "b") == b"text"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_the_mode_holds_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        atomic_file.write(tmp_path / "file", b"", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_only_root_reads_a_file_without_a_mode(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "file", b"secret")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_reader_sees_the_old_or_the_new_content_and_never_a_part(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([letter]) * 100_000 for letter in b"ab"]
    atomic_file.write(path, contents[0])
    writer = threading.Thread(target=lambda: [atomic_file.write(path, contents[turn % 2]) for turn in range(50)])
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(atomic_file.read(path))
    assert seen <= set(contents)


def test_two_threads_that_write_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", {bytes([number]) * 10_000 for number in range(8)}
    threads = [threading.Thread(target=atomic_file.write, args=(path, each)) for each in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert [path] == list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_file.write(path, b"old")
    with pytest.raises(TypeError):
        atomic_file.write(path, "text, not bytes")
    assert path.read_bytes() == b"old"
    assert [path] == list(tmp_path.iterdir())
