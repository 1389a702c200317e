"""How a lab is named on the command line: in a remedy, a command must work as it is printed."""

from pathlib import Path
from typing import Final

DEFAULT_NAME: Final = "lab"
DEFAULT_STATE_ROOT: Final = Path("/var/lib/podwire/labs")


def command(verb: str, folder: Path) -> str:
    """Return `podwire lab VERB` with the options that mean the lab with this folder."""
    name, root = folder.name, folder.parent
    named = "" if name == DEFAULT_NAME else f" --name {name}"
    rooted = "" if root == DEFAULT_STATE_ROOT else f" --state-root {root}"
    return f"podwire lab {verb}{named}{rooted}"
