"""What the conntrack mark of a connection to a Service says, beside the id of its endpoint.

The mark is the only memory of what is to become of a connection, so a restarted proxy goes on where the last one was.
A connection that is to end later has the second in which it ends; one that is being reset has RESET, which a rule of the
table answers.
"""

from typing import Final

from dataplane.conntrack import Marks
from proxy import layout

_COMMON: Final = 0xFFFF_FFFF << (layout.ENDPOINT_IDS.start ^ layout.ENDPOINT_IDS[-1]).bit_length() & 0xFFFF_FFFF
OURS: Final = Marks(layout.ENDPOINT_IDS.start & _COMMON, _COMMON)
"""What the ids of endpoints have in common."""
UNMARKED: Final = Marks(0)
ENDING: Final = Marks(0x8800_0000, 0xF800_0000)
"""Being reset, or with the time at which they will be."""
RESET: Final = 0x8FFF_FFFF
SPARED: Final = OURS.value
"""Of a connection that shall go on after all; the id of its endpoint is no longer known. No endpoint has this one."""

_FIRST: Final = ENDING.value
_SECONDS: Final = 0x0700_0000  # 3.7 years; from there on they are counted anew


def is_ours(mark: int) -> bool:
    return mark & OURS.mask == OURS.value


def is_ending(mark: int) -> bool:
    return mark & ENDING.mask == ENDING.value


def ending_at(time: float) -> int:
    """The mark of a connection that ends then."""
    return _FIRST + int(time) % _SECONDS


def seconds_left(mark: int, now: float) -> float:
    """How long such a connection still has; negative when it should have ended."""
    left = (mark - _FIRST - now) % _SECONDS
    return left - _SECONDS if left > _SECONDS / 2 else left
