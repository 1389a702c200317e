"""Reading Kubernetes' protobuf: what Go clients with compiled-in types send, whatever the server would rather have.

kubectl reads JSON gladly, but `kubectl create namespace` and `kubectl create service` write protobuf without asking.
Only the kinds that such clients create here are known; answers are always JSON.
"""

from typing import Any, Final

from api.protobuf import kinds, wire
from kube.errors import BadRequest, UnsupportedMediaType

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"


def decode(body: bytes) -> Any:
    """The object in a body, as if it had come as JSON."""
    if not body.startswith(_MAGIC):
        raise BadRequest(f"the body is not {CONTENT_TYPE}: it does not begin with {_MAGIC!r}")
    try:
        envelope = wire.message(body[len(_MAGIC) :], kinds.ENVELOPE)
        identity = {"kind": "", "apiVersion": "", **envelope.get("typeMeta", {})}
        fields = kinds.TOP.get((identity["apiVersion"], identity["kind"]))
        if fields is None:
            raise UnsupportedMediaType(
                f"{identity['apiVersion']} {identity['kind']} is not understood as protobuf; send it as application/json"
            )
        return identity | wire.message(envelope.get("raw", b""), fields)
    except wire.Malformed as error:
        raise BadRequest(f"the body is not valid protobuf: {error}") from error
