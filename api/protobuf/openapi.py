"""OpenAPI v2 as kubectl asks for it, in protobuf only, before it sends a `kind: List`.

The document describes nothing: for a kind it does not find there, kubectl leaves validation to the server
(k8s.io/kubectl/pkg/validation), which does it for every request.
"""

from typing import Final

ASKED_FOR: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
CONTENT_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_LENGTH_DELIMITED: Final = 2  # protobuf wire type
# Field numbers of openapi.v2.Document and Info (github.com/google/gnostic-models, OpenAPIv2.proto)
_SWAGGER, _INFO = 1, 2
_TITLE, _VERSION = 1, 2


def document(title: str, version: str) -> bytes:
    """A Document with nothing but its head; both texts shorter than 60 bytes."""
    info = _field(_TITLE, title.encode()) + _field(_VERSION, version.encode())
    return _field(_SWAGGER, b"2.0") + _field(_INFO, info)


def _field(number: int, content: bytes) -> bytes:
    # Lengths below 128 are a varint of one byte.
    return bytes((number << 3 | _LENGTH_DELIMITED, len(content))) + content
