"""A text is loaded once, and again as soon as somebody has taken away what it made."""

import pytest

from cni.loaded_texts import LoadedTexts
from cni.masquerade import TABLE
from dataplane.nft.expressions import verdict
from dataplane.nft.fake import FakeNft, SetShape
from dataplane.nft.objects import AddElements, AddRule, DeleteElements, Element, Rule


class Made(FakeNft):
    """Loading any text replaces the rule and adds the element."""

    def __init__(self):
        super().__init__(TABLE, sets=[SetShape("subnets", 4), SetShape("ports", 4)], chains=["postrouting"])

    def load(self, ruleset):
        super().load(ruleset)
        self.commit([AddElements("subnets", (SUBNET,)), AddRule(Rule("postrouting", verdict("accept")))])


SUBNET = Element(b"\x0a\xf4\x01\x00")


@pytest.fixture
def nft() -> Made:
    return Made()


@pytest.fixture
def texts() -> LoadedTexts:
    return LoadedTexts(chain="postrouting", set_name="subnets")


def test_texts_that_stand_are_not_loaded_again(nft, texts):
    for text in ("a", "b", "a", "b", "a"):
        texts.load(nft, text)
    assert nft.loaded == ["a", "b"]


def test_a_change_of_something_else_takes_nothing_away(nft, texts):
    texts.load(nft, "a")
    nft.commit([AddElements("ports", (Element(b"\0\0\0\1"),))])
    texts.load(nft, "a")
    assert nft.loaded == ["a"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda nft: nft.delete_table(),
        lambda nft: nft.commit([DeleteElements("subnets", (SUBNET,))]),
        lambda nft: nft.commit([AddRule(Rule("postrouting", verdict("drop")))]),
    ],
    ids=["table", "element", "rule"],
)
def test_a_text_is_loaded_again_when_what_it_made_was_changed(nft, texts, damage):
    texts.load(nft, "a")
    damage(nft)
    texts.load(nft, "a")
    assert nft.loaded == ["a", "a"]


def test_a_change_during_the_load_is_noticed(texts):
    class Meddled(Made):
        def load(self, ruleset):
            super().load(ruleset)
            self.delete_table()

    meddled = Meddled()
    for _ in range(2):
        texts.load(meddled, "a")
    assert meddled.loaded == ["a", "a"]
