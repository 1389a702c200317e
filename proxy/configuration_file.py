"""The file the proxy was configured with, watched for another content.

A configuration takes effect as a whole: the proxy begins anew with it, in the same process, beside a table that goes on
serving. kube-proxy ends when its file changes, whatever it says then.
"""

from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 1.0


class ConfigurationFile:
    """One file; `text` is what was read of it last. Raises OSError if it cannot be read at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_bytes()

    def is_another(self) -> bool:
        """Whether it holds another text than when it was read last."""
        try:
            # Read, not only looked at: a mounted ConfigMap is a link that is led elsewhere.
            text = self.path.read_bytes()
        except OSError:
            return False  # it is being replaced
        is_another, self.text = text != self.text, text
        return is_another
