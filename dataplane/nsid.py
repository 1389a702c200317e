"""The number by which one network namespace knows another: what a veth's far end is reported in.

Asked over a socket of its own, since the answer depends on the namespace the socket was opened in.
"""

import socket
import struct

from dataplane.errors import from_errno

RTM_GETNSID = 90  # include/uapi/linux/rtnetlink.h
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
NETNSA_NSID, NETNSA_FD = 1, 3  # include/uapi/linux/net_namespace.h
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HHi")
_GENERIC = 4  # struct rtgenmsg, aligned


def nsid_of(netns_fd: int) -> int | None:
    """The number the calling thread's namespace has for another; None when it has none for it."""
    body = bytes(_GENERIC) + _ATTRIBUTE.pack(_ATTRIBUTE.size, NETNSA_FD, netns_fd)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.send(_HEADER.pack(_HEADER.size + len(body), RTM_GETNSID, NLM_F_REQUEST, 1, 0) + body)
        answer = asking.recv(4096)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind == NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        raise from_errno(f"ask for the number of network namespace (descriptor {netns_fd})", -code)
    return _number(answer[_HEADER.size + _GENERIC :])


def _number(attributes: bytes) -> int | None:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind, value = _ATTRIBUTE.unpack_from(attributes)
        if kind == NETNSA_NSID:
            return int(value) if value >= 0 else None
        attributes = attributes[(length + 3) & ~3 :]
    return None
