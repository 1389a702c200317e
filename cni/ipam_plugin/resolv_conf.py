"""resolv.conf(5) as the `dns` of a result, for `ipam.resolvConf`."""

from pathlib import Path
from typing import Any

from cni.spec import invalid


def read(field: str, path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(field, path, f"cannot be read: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """The last `search` and `domain` count, name servers and options add up."""
    dns: dict[str, Any] = {}
    for line in text.splitlines():
        keyword, *values = line.split("#")[0].split(";")[0].split() or [""]
        if keyword == "nameserver":
            dns.setdefault("nameservers", []).extend(values[:1])
        elif keyword == "domain":
            dns["domain"] = "".join(values[:1])
        elif keyword == "search":
            dns["search"] = values
        elif keyword == "options":
            dns.setdefault("options", []).extend(values)
    return {key: value for key, value in dns.items() if value}
