"""rtnetlink's numbers and headers, under the kernel's own names (include/uapi/linux/{rtnetlink,if_link,if_addr}.h)."""

from struct import Struct
from typing import Final

AF_INET: Final = 2
AF_INET6: Final = 10

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

IFINFOMSG: Final = Struct("=BxHiII")  # family, type, index, flags, which flags change
IFF_UP: Final = 1
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_LINK_NETNSID: Final = 37
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_KIND: Final = 4
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_BR_NF_CALL_IPTABLES: Final = 36
IFLA_BR_NF_CALL_IP6TABLES: Final = 37
IFLA_BRPORT_MODE: Final = 4
VETH_INFO_PEER: Final = 1
RTEXT_FILTER_SKIP_STATS: Final = 1 << 3

IFADDRMSG: Final = Struct("=BBBBI")  # family, prefix length, flags, scope, index
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x02

RTMSG: Final = Struct("=BBBBBBBBI")  # family, destination and source length, TOS, table, protocol, scope, type, flags
RTN_UNICAST: Final = 1
RT_TABLE_MAIN: Final = 254
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_METRICS: Final = 8
RTA_TABLE: Final = 15
RTAX_MTU: Final = 2
RTAX_ADVMSS: Final = 8
