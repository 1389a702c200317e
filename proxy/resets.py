"""Ending TCP connections for both of their ends, wherever they are and though they may be silent.

A rule of the table answers every packet of a connection marked RESET with a reset. An end that says nothing is made to
say something: it gets a segment it cannot accept. Who does not answer that either is not there any more.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from dataplane.conntrack import Flow
from dataplane.errors import DataplaneError
from dataplane.tcp_probe import End

log = structlog.get_logger(__name__)

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
    """The connections being reset. Not for two threads at once."""

    def __init__(self, connections: Forgetting, probe: Probe) -> None:
        self._connections = connections
        self._probe = probe
        self._attempts: dict[bytes, int] = {}

    def proceed(self, flows: Sequence[Flow]) -> float:
        """Take all of them, which are marked, one step further; returns when to do so again, in seconds."""
        self._attempts = {flow.name: self._attempts.get(flow.name, 0) for flow in flows}
        wait = _AGAIN_SECONDS
        for flow in flows:
            if self._attempts[flow.name] >= _ATTEMPTS:
                self._connections.delete(flow)
            elif self._wake_both_ends(flow):
                self._attempts[flow.name] += 1
            else:
                wait = _WITHOUT_PROBES_SECONDS
        return wait

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
