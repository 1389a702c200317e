"""Which Service this is, and the place in every range that follows from it."""

import zlib

from api.model import Object

KUBERNETES = ("default", "kubernetes")
"""The Service of the API server itself: the service CIDRs' first addresses are kept for it."""


def of(service: Object) -> tuple[str, str]:
    """Namespace and name."""
    metadata = service["metadata"]
    return metadata.get("namespace", ""), metadata.get("name", "")


def place(service: Object) -> int:
    """A number that is the Service's own, and the same when it is created again."""
    return zlib.crc32("/".join(of(service)).encode())
