"""The wire format of nfnetlink that encoding and decoding share: constants, and attributes (type, length, value).

Names are the kernel's: include/uapi/linux/netlink.h, netfilter/nfnetlink.h and netfilter/nf_tables.h.
"""

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct

from dataplane.errors import DataplaneError
from dataplane.nft.values import VerdictKind

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_REPLACE = 0x100
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100  # in an error: the refused message is not repeated
NLM_F_ACK_TLVS = 0x200  # in an error: attributes explain it
NLMSGERR_ATTR_MSG = 1
NLMSGERR_ATTR_OFFS = 2
NLA_TYPE_MASK = 0x3FFF

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN = 16
NFNL_MSG_BATCH_END = 17
NFNL_BATCH_GENID = 1
NFNLGRP_NFTABLES = 7

_SUBSYSTEM = NFNL_SUBSYS_NFTABLES << 8
NFT_MSG_NEWTABLE = _SUBSYSTEM | 0
NFT_MSG_GETTABLE = _SUBSYSTEM | 1
NFT_MSG_DELTABLE = _SUBSYSTEM | 2
NFT_MSG_NEWCHAIN = _SUBSYSTEM | 3
NFT_MSG_GETCHAIN = _SUBSYSTEM | 4
NFT_MSG_DELCHAIN = _SUBSYSTEM | 5
NFT_MSG_NEWRULE = _SUBSYSTEM | 6
NFT_MSG_GETRULE = _SUBSYSTEM | 7
NFT_MSG_DELRULE = _SUBSYSTEM | 8
NFT_MSG_NEWSET = _SUBSYSTEM | 9
NFT_MSG_DELSET = _SUBSYSTEM | 11
NFT_MSG_NEWSETELEM = _SUBSYSTEM | 12
NFT_MSG_GETSETELEM = _SUBSYSTEM | 13
NFT_MSG_DELSETELEM = _SUBSYSTEM | 14
NFT_MSG_NEWGEN = _SUBSYSTEM | 15
NFT_MSG_GETGEN = _SUBSYSTEM | 16

NFTA_TABLE_NAME = 1  # and, under other names, the table's name in every message about what is in it
NFTA_CHAIN_TABLE = 1
NFTA_CHAIN_NAME = 3
NFTA_CHAIN_USERDATA = 12
NFTA_RULE_CHAIN = 2
NFTA_RULE_HANDLE = 3
NFTA_RULE_EXPRESSIONS = 4
NFTA_RULE_USERDATA = 7
NFTA_SET_ELEM_LIST_SET = 2
NFTA_SET_ELEM_LIST_ELEMENTS = 3
NFTA_LIST_ELEM = 1
NFTA_SET_ELEM_KEY = 1
NFTA_SET_ELEM_DATA = 2
NFTA_SET_ELEM_TIMEOUT = 4
NFTA_SET_ELEM_EXPIRATION = 5
NFTA_SET_ELEM_USERDATA = 6
NFTA_SET_ELEM_EXPR = 7
NFTA_SET_ELEM_KEY_END = 10
NFTA_LIMIT_RATE = 1
NFTA_LIMIT_UNIT = 2
NFTA_LIMIT_BURST = 3
NFTA_LIMIT_TYPE = 4
NFTA_LIMIT_FLAGS = 5
NFT_LIMIT_PKT_BYTES = 1
NFT_LIMIT_F_INV = 1
NFTA_COUNTER_BYTES = 1
NFTA_COUNTER_PACKETS = 2
NFTA_DATA_VALUE = 1
NFTA_DATA_VERDICT = 2
NFTA_VERDICT_CODE = 1
NFTA_VERDICT_CHAIN = 2
NFTA_EXPR_NAME = 1
NFTA_EXPR_DATA = 2
NFTA_GEN_ID = 1
NFTA_GEN_PROC_PID = 2
NFTA_GEN_PROC_NAME = 3
UDATA_COMMENT = 0  # NFTNL_UDATA_{CHAIN,RULE,SET_ELEM}_COMMENT

VERDICT_CODES: dict[VerdictKind, int] = {"drop": 0, "accept": 1, "continue": -1, "jump": -3, "goto": -4, "return": -5}

MESSAGE = Struct("=IHHIIBBH")  # nlmsghdr and nfgenmsg: length, type, flags, sequence, port, family, version, resource
NLMSG_HEADER = Struct("=IHHII")
LENGTH = Struct("=I")  # at the head of every message, in the host's byte order
ATTRIBUTE = Struct("=HH")
U32 = Struct("!I")
I32 = Struct("!i")
U64 = Struct("!Q")
PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class MalformedMessage(DataplaneError):
    """Bytes that no netlink message of this kind consists of."""

    def __init__(self, expected: str, found: bytes) -> None:
        super().__init__("read a netlink message", detail=f"expected {expected}, found {found[:64].hex() or 'nothing'}")
        self.expected = expected
        self.found = found


def attribute(kind: int, payload: bytes) -> bytes:
    length = len(payload)
    return ATTRIBUTE.pack(length + 4, kind) + payload + PADDING[length & 3]


def text(string: str) -> bytes:
    """A string as attributes hold it."""
    return string.encode() + b"\0"


def string(kind: int, string: str) -> bytes:
    return attribute(kind, text(string))


def u32(kind: int, number: int) -> bytes:
    return attribute(kind, U32.pack(number))


def u64(kind: int, number: int) -> bytes:
    return attribute(kind, U64.pack(number))


@lru_cache(maxsize=64)  # the elements of a Service come one after the other, with the same comment
def comment(kind: int, text: str) -> bytes:
    """User data that nft shows as a comment: a type, a length, and a string with its final NUL."""
    encoded = text.encode() + b"\0"
    return attribute(kind, bytes((UDATA_COMMENT, len(encoded))) + encoded)


def attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message or a nest. Raises MalformedMessage."""
    position, end = 0, len(payload)
    while end - position >= 4:
        length, kind = ATTRIBUTE.unpack_from(payload, position)
        if length < 4 or position + length > end:
            raise MalformedMessage("an attribute", payload[position:])
        yield kind & NLA_TYPE_MASK, payload[position + 4 : position + length]
        position += (length + 3) & ~3


def fields(payload: bytes) -> dict[int, bytes]:
    """The attributes by type, of a type that stands there twice the last. Raises MalformedMessage."""
    found: dict[int, bytes] = {}
    position, end, unpack = 0, len(payload), ATTRIBUTE.unpack_from
    while end - position >= 4:
        length, kind = unpack(payload, position)
        if length < 4 or position + length > end:
            raise MalformedMessage("an attribute", payload[position:])
        found[kind & NLA_TYPE_MASK] = payload[position + 4 : position + length]
        position += (length + 3) & ~3
    return found


def read_string(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")


def read_number(payload: bytes) -> int:
    """An unsigned integer of any width in network byte order."""
    return int.from_bytes(payload, "big")


def read_comment(payload: bytes) -> str:
    """The comment in user data that may hold other things too; empty if there is none."""
    position = 0
    while position + 2 <= len(payload):
        kind, length = payload[position], payload[position + 1]
        if kind == UDATA_COMMENT:
            return read_string(payload[position + 2 : position + 2 + length])
        position += 2 + length
    return ""
