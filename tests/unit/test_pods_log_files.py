"""Logs that are cut while somebody writes to them."""

from pods import log_files


def test_a_short_log_is_left_alone(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("line\n")

    assert not log_files.trim(path)
    assert not log_files.trim(tmp_path / "missing.log")
    assert path.read_text() == "line\n"


def test_a_long_log_becomes_its_predecessor_and_its_writer_goes_on_at_the_start(tmp_path):
    path = tmp_path / "a.log"
    with path.open("a") as writer:
        writer.write("x" * 100)
        writer.flush()

        assert log_files.trim(path, largest=64)

        writer.write("after")
    assert path.read_text() == "after"
    assert log_files.predecessor(path).read_text() == "x" * 64
