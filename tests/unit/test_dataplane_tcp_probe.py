"""The segment that makes a TCP stack show itself: what is in it, read by scapy."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from dataplane.tcp_probe import End, packet


@pytest.mark.parametrize(
    ("layer", "sender", "receiver"), [(IP, "192.0.2.1", "192.0.2.2"), (IPv6, "2001:db8::1", "2001:db8::2")]
)
def test_the_probe_is_a_whole_segment_between_the_ends(layer, sender, receiver):
    sent = packet(End(ip_address(sender), 80), End(ip_address(receiver), 40000))
    read = layer(sent)
    checksum = read[TCP].chksum
    del read[TCP].chksum

    assert (read.src, read.dst, read[TCP].sport, read[TCP].dport) == (sender, receiver, 80, 40000)
    assert str(read[TCP].flags) == "A"
    assert layer(bytes(read))[TCP].chksum == checksum
