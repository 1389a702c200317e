"""The grammars of names: what objects, labels and annotations may be called (RFC 1123, RFC 1035, k8s.io/apimachinery).

A name becomes a DNS label, a file name or part of a rule's comment somewhere; the grammar is what makes that safe.
"""

import re
from collections.abc import Callable, Mapping

from api.resources import fields
from kube.errors import FieldError

Check = Callable[[str, str], list[FieldError]]

LABEL_LIMIT = 63
SUBDOMAIN_LIMIT = 253
ANNOTATIONS_LIMIT = 256 * 1024

_LABEL_1123 = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_1123 = rf"{_LABEL_1123}(\.{_LABEL_1123})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"

_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    f" an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_1123}')"
)
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    f" '{_SUBDOMAIN_1123}')"
)
_LABEL_1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is"
    f" '{_LABEL_1035}')"
)
_QUALIFIED_MESSAGE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    f" (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    f" '{_LABEL_VALUE}')"
)
_SLASHES_MESSAGE = (
    "a qualified name may hold one '/', between an optional DNS subdomain and a name (e.g. 'example.com/MyName')"
)


def _grammar(text: str, limit: int, pattern: str, message: str) -> list[str]:
    broken = [] if len(text) <= limit else [f"must be no more than {limit} characters"]
    return broken if re.fullmatch(pattern, text) else [*broken, message]


def _errors(path: str, text: str, messages: list[str]) -> list[FieldError]:
    return [fields.invalid(path, text, message) for message in messages]


def dns_label(path: str, text: str) -> list[FieldError]:
    return _errors(path, text, _grammar(text, LABEL_LIMIT, _LABEL_1123, _LABEL_MESSAGE))


def dns_1035_label(path: str, text: str) -> list[FieldError]:
    return _errors(path, text, _grammar(text, LABEL_LIMIT, _LABEL_1035, _LABEL_1035_MESSAGE))


def dns_subdomain(path: str, text: str) -> list[FieldError]:
    return _errors(path, text, _grammar(text, SUBDOMAIN_LIMIT, _SUBDOMAIN_1123, _SUBDOMAIN_MESSAGE))


def qualified_name(path: str, text: str) -> list[FieldError]:
    """A label's key: `name` or `subdomain/name`."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return [fields.invalid(path, text, _SLASHES_MESSAGE)]
    messages = []
    if slash:
        broken = (
            _grammar(prefix, SUBDOMAIN_LIMIT, _SUBDOMAIN_1123, _SUBDOMAIN_MESSAGE) if prefix else ["must be non-empty"]
        )
        messages += [f"prefix part {message}" for message in broken]
    if not name:
        messages.append("name part must be non-empty")
    messages += [f"name part {message}" for message in _grammar(name, LABEL_LIMIT, _QUALIFIED, _QUALIFIED_MESSAGE)]
    return _errors(path, text, messages)


def labels(path: str, values: Mapping[str, str]) -> list[FieldError]:
    """Labels, and the selectors made of them."""
    errors = []
    for key, value in values.items():
        errors += qualified_name(path, key)
        errors += _errors(path, value, _grammar(value, LABEL_LIMIT, _LABEL_VALUE, _LABEL_VALUE_MESSAGE))
    return errors


def annotations(path: str, values: Mapping[str, str]) -> list[FieldError]:
    errors = [error for key in values for error in qualified_name(path, key.lower())]
    if sum(len(key.encode()) + len(value.encode()) for key, value in values.items()) > ANNOTATIONS_LIMIT:
        errors.append(fields.too_long(path, "", ANNOTATIONS_LIMIT))
    return errors
