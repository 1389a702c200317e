"""docs/service-semantics.md names the test that proves each rule: each of them exists."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "service-semantics.md"
# A test's name without `test_`: a sentence of at least three words.
NAMED = re.compile(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`")
DEFINED = re.compile(r"^def test_(\w+)\(", re.MULTILINE)


def test_every_test_that_the_semantics_table_names_exists():
    named = set(NAMED.findall(PAGE.read_text()))
    defined = {name for path in TESTS.rglob("test_*.py") for name in DEFINED.findall(path.read_text())}

    assert len(named) > 60
    assert named - defined == set()


def test_every_row_of_the_semantics_table_has_a_proof():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and not set(line) <= set("|- ")]

    assert [row for row in rows if not row.strip("|").split("|")[-1].strip()] == []
