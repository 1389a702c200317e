"""The file the proxy was configured with, watched for another content.

A configuration takes effect as a whole and at a start: as with kube-proxy, one that changes ends the process, and
whoever runs it starts it anew. Unlike there, a file that cannot be meant is told of and changes nothing.
"""

from pathlib import Path
from typing import Final

import structlog

from proxy.configuration import ConfigurationError, parse

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0


class ConfigurationFile:
    """One file; `text` is what was read of it last. Raises OSError if it cannot be read at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_bytes()

    def is_another(self) -> bool:
        """Whether it holds another configuration than when it was read last."""
        try:
            # Read, not only looked at: a mounted ConfigMap is a link that is led elsewhere.
            text = self.path.read_bytes()
        except OSError:
            return False  # it is being replaced
        if text == self.text:
            return False
        self.text = text
        try:
            parse(text, self.path)
        except ConfigurationError as error:
            log.warning("the configuration changed to what cannot be; the proxy goes on as it is", error=str(error))
            return False
        return True
