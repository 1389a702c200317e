"""What of an EndpointSlice cannot be served: the parts that are left out, named for an Event.

They cost nobody else anything, so nothing fails; without this nobody would ever hear of them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from kube import objects
from proxy import addresses, model


class Fault(NamedTuple):
    """A field that is wrong, its value, and what to do."""

    field: str
    value: object
    reason: str

    def __str__(self) -> str:
        return f"{self.field} {self.value!r}: {self.reason}"


def faults(endpoint_slice: objects.EndpointSlice) -> Iterator[Fault]:
    """All of them. Names of hosts (addressType FQDN) are nobody's to serve, and no fault."""
    version = model.VERSIONS_OF_SLICES.get(endpoint_slice.address_type)
    if version is None:
        return
    for index, port in enumerate(endpoint_slice.ports or ()):
        if port.port is not None and not 0 < port.port < 65536:
            yield Fault(f"ports[{index}].port", port.port, "must be between 1 and 65535")
    for index, endpoint in enumerate(endpoint_slice.endpoints or ()):
        if not endpoint.addresses:
            yield Fault(f"endpoints[{index}].addresses", [], "must have one")
        elif addresses.packed_address(endpoint.addresses[0], version) is None:
            reason = f"{model.ADDRESS_RULE}, of {endpoint_slice.address_type}"
            yield Fault(f"endpoints[{index}].addresses[0]", endpoint.addresses[0], reason)
    annotations = endpoint_slice.metadata.annotations
    if annotations and model.WEIGHTS in annotations:
        yield from _weight_faults(annotations[model.WEIGHTS])


def _weight_faults(text: str) -> Iterator[Fault]:
    field, rule = f"metadata.annotations[{model.WEIGHTS}]", f"a whole number from 0 to {model.MAX_WEIGHT}"
    try:
        given = msgspec.json.decode(text) if text else {}
    except (msgspec.MsgspecError, RecursionError):
        given = None
    if not isinstance(given, dict):
        yield Fault(field, text, f"must be a JSON object of address to {rule}")
        return
    taken = model.weights(text)
    for address in given.keys() - taken.keys():
        yield Fault(f"{field}[{address!r}]", given[address], f"must be {rule}")
