"""Objects as the bytes that are stored and sent.

An object is encoded once, when it is written. The revision that a commit will get is not known before the commit, so
the stored bytes leave `metadata.resourceVersion` out and begin with a head that is the same for every object of a
kind; reading puts the revision in behind that head. Lists and events are then joins of bytes.
"""

from typing import Any, Final

import msgspec

from api.model import Object
from kube.resources import ResourceType

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder()


def encode(value: Any) -> bytes:
    return _ENCODER.encode(value)


def decode(encoded: bytes) -> Any:
    """Read JSON; raises msgspec.DecodeError, also for nesting deeper than the interpreter's stack."""
    try:
        return _DECODER.decode(encoded)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(str(error)) from error


class Codec:
    """The bytes of one kind."""

    def __init__(self, resource: ResourceType) -> None:
        self._identity = {"kind": resource.kind, "apiVersion": resource.api_version}
        self._head = encode(self._identity | {"metadata": {}})[:-2]

    def dump(self, obj: Object) -> bytes:
        """The object as it is stored, without its resourceVersion."""
        metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
        return encode({**self._identity, "metadata": metadata, **_without_identity(obj)})

    def at(self, stored: bytes, revision: int) -> bytes:
        """The stored object as it is sent: with its revision in place."""
        return b'%b"resourceVersion":"%d",%b' % (self._head, revision, stored[len(self._head) :])

    def moved(self, sent: bytes, old: int, new: int) -> bytes:
        """The object as sent at one revision, as it is sent at another."""
        return (
            self._head
            + b'"resourceVersion":"%d",' % new
            + sent[len(self._head) + len(b'"resourceVersion":"%d",' % old) :]
        )


def _without_identity(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in {"kind", "apiVersion", "metadata"}}
