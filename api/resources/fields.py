"""What can be wrong with a field, in the words Kubernetes uses for it.

Validation returns every error it finds, never only the first: whoever writes a manifest corrects it once. Each error
names the field's path as the user wrote it and carries the value that was refused.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from kube.errors import FieldError

PROTOCOLS = ("SCTP", "TCP", "UDP")
IMMUTABLE = "field is immutable"

_PORT_NAME = re.compile(r"[-a-z0-9]*")


def invalid(path: str, value: object, message: str) -> FieldError:
    return FieldError(path, value, message, "FieldValueInvalid")


def required(path: str, message: str = "") -> FieldError:
    return FieldError(path, "", message, "FieldValueRequired")


def duplicate(path: str, value: object) -> FieldError:
    return FieldError(path, value, "", "FieldValueDuplicate")


def forbidden(path: str, message: str) -> FieldError:
    return FieldError(path, "", message, "FieldValueForbidden")


def not_found(path: str, value: object) -> FieldError:
    return FieldError(path, value, "", "FieldValueNotFound")


def too_long(path: str, value: object, limit: int) -> FieldError:
    return FieldError(path, value, f"may not be more than {limit} bytes", "FieldValueTooLong")


def too_many(path: str, count: int, limit: int) -> FieldError:
    return FieldError(path, count, f"{count}: must have at most {limit} items", "FieldValueTooMany")


def not_supported(path: str, value: object, supported: Sequence[str]) -> FieldError:
    listed = ", ".join(f'"{choice}"' for choice in supported)
    return FieldError(path, value, f"supported values: {listed}", "FieldValueNotSupported")


def one_of(path: str, value: object, supported: Sequence[str]) -> list[FieldError]:
    """A value that must be there and be one of a few."""
    if not value:
        return [required(path)]
    return [] if value in supported else [not_supported(path, value, supported)]


def in_range(path: str, value: int, lowest: int, highest: int) -> list[FieldError]:
    if lowest <= value <= highest:
        return []
    return [invalid(path, value, f"must be between {lowest} and {highest}, inclusive")]


def not_negative(path: str, value: int) -> list[FieldError]:
    return [] if value >= 0 else [invalid(path, value, "must be greater than or equal to 0")]


def port(path: str, value: int) -> list[FieldError]:
    return in_range(path, value, 1, 65535)


def port_name(path: str, name: str) -> list[FieldError]:
    """The name of a port a container listens on: a service name as IANA registers them (RFC 6335 §5.1)."""
    rules = (
        (len(name) > 15, "must be no more than 15 characters"),
        (not _PORT_NAME.fullmatch(name), "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
        (not re.search("[a-z]", name), "must contain at least one letter (a-z)"),
        ("--" in name, "must not contain consecutive hyphens"),
        (name.startswith("-") or name.endswith("-"), "must not begin or end with a hyphen"),
    )
    return [invalid(path, name, message) for broken, message in rules if broken]


def port_or_name(path: str, value: int | str) -> list[FieldError]:
    return port(path, value) if isinstance(value, int) else port_name(path, value)


def ip(path: str, text: str) -> tuple[IPv4Address | IPv6Address | None, list[FieldError]]:
    """The address a field holds, or why it holds none."""
    try:
        if "%" in text:  # a zone (RFC 4007) has a meaning on one machine only
            raise ValueError(text)
        return ip_address(text), []
    except ValueError:
        return None, [invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]


def unicast_ip(path: str, text: str) -> list[FieldError]:
    """An address that traffic can be sent to from anywhere in the cluster."""
    address, errors = ip(path, text)
    if address is None:
        return errors
    rules = (
        (address.is_unspecified, f"may not be unspecified ({address})"),
        (address.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (address.is_multicast, "may not be in the multicast range (224.0.0.0/4, ff00::/8)"),
    )
    return [invalid(path, text, message) for broken, message in rules if broken]


def cidr(path: str, text: str) -> tuple[IPv4Network | IPv6Network | None, list[FieldError]]:
    """The network a field holds, or why it holds none."""
    try:
        if "/" not in text:
            raise ValueError(text)
        return ip_network(text), []
    except ValueError:
        return None, [invalid(path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]


def unique(paths_and_values: Iterable[tuple[str, object]]) -> list[FieldError]:
    """A Duplicate error for every value that was there before."""
    seen: set[object] = set()
    errors = []
    for path, value in paths_and_values:
        if value in seen:
            errors.append(duplicate(path, value))
        seen.add(value)
    return errors


def each(path: str, items: Sequence[object], check: Callable[[str, object], list[FieldError]]) -> list[FieldError]:
    """The errors of all items of a list, each under its index."""
    return [error for index, item in enumerate(items) for error in check(f"{path}[{index}]", item)]
