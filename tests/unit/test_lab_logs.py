"""What the ends of logs say."""

import pytest

from lab import logs


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2026-11-23T03:11:59.423786123Z stdout F hello", "hello"),
        ("2026-11-23T03:11:59.423786123+00:00 stderr P part", "part"),
        ("timestamp=2026-11-23T03:11:59Z stdout F", "timestamp=2026-11-23T03:11:59Z stdout F"),
    ],
)
def test_what_a_runtime_put_before_a_line_is_left_out(line, said):
    assert logs.said(line) == said


def test_only_the_last_lines_are_told(tmp_path):
    (tmp_path / "log").write_text("a\nb\nc\n")

    assert logs.tail(tmp_path / "log", 2) == ("b", "c")
    assert logs.tail(tmp_path / "none", 2) == ()
