"""Every program says which version it is."""

import importlib

import pytest
from click.testing import CliRunner


@pytest.mark.parametrize("program", ["api", "cli", "node", "proxy"])
def test_a_program_tells_its_version(program):
    main = importlib.import_module(f"{program}.__main__").main

    told = CliRunner().invoke(main, ["--version"], prog_name=program)

    assert (told.exit_code, told.output.split(", version ")[0]) == (0, program)
