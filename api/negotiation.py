"""What the client can read and what it sends: JSON, in one of the shapes kubectl asks for."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from kube.errors import NotAcceptable, UnsupportedMediaType

JSON: Final = "application/json"


class Shape(Enum):
    """Shapes of a JSON answer (the `as` parameter of a media type)."""

    OBJECT = ""
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"
    DISCOVERY = "APIGroupDiscoveryList"


# The versions of each shape that we speak; a client that asks for another goes on to its next choice.
_SPOKEN: Final = MappingProxyType(
    {
        ("", "", ""): Shape.OBJECT,
        ("Table", "meta.k8s.io", "v1"): Shape.TABLE,
        ("PartialObjectMetadata", "meta.k8s.io", "v1"): Shape.METADATA,
        ("PartialObjectMetadataList", "meta.k8s.io", "v1"): Shape.METADATA,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"): Shape.DISCOVERY,
    }
)
_JSON_RANGES: Final = frozenset({JSON, "application/*", "*/*"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """One choice of an Accept header, or a Content-Type."""

    name: str
    parameters: dict[str, str]

    @property
    def quality(self) -> float:
        try:
            return float(self.parameters.get("q", "1"))
        except ValueError:
            return 0.0

    @property
    def shape(self) -> Shape | None:
        key = (self.parameters.get("as", ""), self.parameters.get("g", ""), self.parameters.get("v", ""))
        return _SPOKEN.get(key) if self.name in _JSON_RANGES else None


def parse_media_type(text: str) -> MediaType:
    name, *parameters = text.split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return MediaType(name=name.strip().lower(), parameters={key.strip(): value.strip() for key, _, value in pairs})


def accepted(header: str | None, *offered: Shape) -> Shape:
    """The first shape of the client's choice that is offered here; a plain object always is."""
    for choice in _choices(header or "*/*"):
        if choice.shape is Shape.OBJECT or choice.shape in offered:
            return choice.shape
    raise NotAcceptable(f"only {JSON} can be answered; the Accept header is {header!r}")


def _choices(header: str) -> Iterator[MediaType]:
    choices = [parse_media_type(part) for part in header.split(",") if part.strip()]
    yield from sorted((choice for choice in choices if choice.quality > 0), key=lambda choice: -choice.quality)


def sent_type(header: str | None, *allowed: str) -> str:
    """The media type of a request's body; none at all means the first allowed one."""
    name = parse_media_type(header).name if header else allowed[0]
    if name not in allowed:
        raise UnsupportedMediaType(f"the body of this request must be {' or '.join(allowed)}, not {name!r}")
    return name
