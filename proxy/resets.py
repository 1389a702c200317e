"""Ending TCP connections for both of their ends, wherever they are and though they may be silent.

A table of its own, which is there only meanwhile, answers every packet of a connection marked RESET with a reset. An end
that says nothing is made to say something: it gets a segment it cannot accept. Who does not answer that either is not
there any more.
"""

import contextlib
import importlib.resources
from collections.abc import Sequence
from string import Template
from typing import Final, Protocol

import structlog

from dataplane.conntrack import Flow
from dataplane.errors import DataplaneError
from dataplane.nft.interface import LoadFailed, Nft
from dataplane.nft.objects import Table
from dataplane.tcp_probe import PROBE, End
from proxy import flow_marks

log = structlog.get_logger(__name__)

TABLE: Final = "podwire-proxy-resets"

_ATTEMPTS: Final = 3
_AGAIN_SECONDS: Final = 0.6  # longer than the half second in which a stack answers such segments once
_WITHOUT_PROBES_SECONDS: Final = 60.0


class Probe(Protocol):
    """What is asked of dataplane.tcp_probe."""

    def send(self, sender: End, receiver: End) -> None: ...


class Forgetting(Protocol):
    """What is asked of dataplane.conntrack."""

    def delete(self, flow: Flow) -> bool: ...


class Resets:
    """The connections of one address family being reset. Not for two threads at once."""

    def __init__(self, connections: Forgetting, probe: Probe, nft: Nft) -> None:
        """`nft` is the proxy's own table, of which this takes the family and the way into the kernel."""
        self._connections = connections
        self._probe = probe
        self._nft = nft
        self._table = Table(nft.table.family, TABLE)
        self._may_be_loaded = True  # by an earlier run
        self._attempts: dict[bytes, int] = {}

    def proceed(self, flows: Sequence[Flow]) -> float | None:
        """Take all of them, which are marked, one step further; returns when to do so again, in seconds.

        None when there is nothing to do again, because there are none. Raises DataplaneError.
        """
        self._attempts = {flow.name: self._attempts.get(flow.name, 0) for flow in flows}
        if not flows:
            self._unload()
            return None
        self._load()
        wait = _AGAIN_SECONDS
        for flow in flows:
            if self._attempts[flow.name] >= _ATTEMPTS:
                self._connections.delete(flow)
            elif self._wake_both_ends(flow):
                self._attempts[flow.name] += 1
            else:
                wait = _WITHOUT_PROBES_SECONDS
        return wait

    def _load(self) -> None:
        # Each time: somebody may have flushed everything.
        text = Template(importlib.resources.files("proxy").joinpath("resets.nft").read_text(encoding="utf-8"))
        self._nft.load(text.substitute(table=self._table, reset=f"{flow_marks.RESET:#x}", probe=PROBE))
        self._may_be_loaded = True

    def _unload(self) -> None:
        if self._may_be_loaded:
            with contextlib.suppress(LoadFailed):  # it mostly is not there
                self._nft.load(f"delete table {self._table}")
            self._may_be_loaded = False

    def _wake_both_ends(self, flow: Flow) -> bool:
        client, front = End(flow.source, flow.source_port), End(flow.destination, flow.destination_port)
        endpoint, seen = End(flow.replier, flow.replier_port), End(flow.reply_to, flow.reply_to_port)
        is_sent = [self._wake(*ends) for ends in ((front, client), (seen, endpoint))]
        return any(is_sent)

    def _wake(self, sender: End, receiver: End) -> bool:
        try:
            self._probe.send(sender, receiver)
        except DataplaneError as error:
            log.warning("a connection is reset only when its ends send something", error=str(error))
            return False
        return True
