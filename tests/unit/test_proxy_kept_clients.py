"""Which clients are kept where, from what a table holds. Service port default/web:http has the number 0x40002000."""

from ipaddress import ip_address

import pytest

from dataplane.nft import values
from dataplane.nft.objects import Element, Expiring
from proxy import layout
from proxy.kept_clients import InvalidClient, KeptClient, chosen, kept_clients
from proxy.model import Target

WEB, OTHER = 0x40002000, 0x40004000
FOUR, SIX = "10.244.1.2", "fd00:10:244:1::2"
TARGET = Target(ip_address("10.244.1.9").packed, 8080)


def entry(client: str, number: int = WEB, endpoint: int = WEB + 1, milliseconds: int = 90_500) -> Expiring:
    key = ip_address(client).packed[-12:] + values.mark(number)
    return Expiring(Element(key, values.mark(endpoint), timeout=600_000), milliseconds)


RING = [
    Element(values.mark(1), values.mark(WEB + 1)),
    Element(values.mark(WEB), values.mark(WEB + 1), "default/web:http"),
    Element(values.mark(OTHER), values.mark(OTHER + 1), "other/web"),
]
ENDPOINTS = [Element(values.mark(WEB + 1), layout.target_value(TARGET), "default/web:http")]


def told(*entries: Expiring) -> list[KeptClient]:
    return kept_clients(entries, RING, ENDPOINTS)


def test_an_entry_is_told_with_names():
    (kept,) = told(entry(FOUR))

    assert (kept.service_port, kept.client, kept.endpoint, kept.seconds) == ("default/web:http", FOUR, TARGET, 90.5)


def test_of_an_ipv6_client_the_last_96_bits_are_told():
    assert told(entry(SIX))[0].client == "*:*:244:1:0:0:0:2"


def test_what_is_gone_or_unknown_is_said():
    gone, unknown = told(entry(FOUR, endpoint=WEB + 9), entry(FOUR, 0x50000000))[::-1]

    assert (gone.endpoint, gone.service_port, unknown.service_port) == (None, "default/web:http", "?")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"default/web:http", "other/web"}),
        ({"service": "web"}, {"default/web:http"}),
        ({"service": "default/web:http"}, {"default/web:http"}),
        ({"service": "other/web"}, {"other/web"}),
        ({"service": "we"}, set()),
        ({"service": "default/web:https"}, set()),
        ({"client": "10.244.1.3"}, {"other/web"}),
        ({"client": FOUR, "service": "other/web"}, set()),
    ],
)
def test_clients_are_chosen_by_service_and_address(wanted, found):
    kept = told(entry(FOUR), entry("10.244.1.3", OTHER))

    assert {each.service_port for each in chosen(kept, **wanted)} == found


@pytest.mark.parametrize("text", [SIX, "*:*:244:1:0:0:0:2", "2001:db8:244:1::2"])
def test_an_ipv6_client_is_chosen_by_its_last_96_bits(text):
    assert len(chosen(told(entry(SIX), entry("fd00:10:244:1::3")), client=text)) == 1


def test_what_is_no_client_is_refused():
    with pytest.raises(InvalidClient, match="'web'"):
        chosen([], client="web")
