"""A text is loaded once, and again as soon as anybody may have taken it away."""

import pytest

from cni.loaded_texts import LoadedTexts
from cni.masquerade import TABLE
from dataplane.nft.fake import FakeNft


@pytest.fixture
def nft() -> FakeNft:
    return FakeNft(TABLE)


@pytest.fixture
def texts() -> LoadedTexts:
    return LoadedTexts()


def test_a_text_that_stands_is_not_loaded_again(nft, texts):
    for text in ("a", "b", "a", "b", "a"):
        texts.load(nft, text)
    assert nft.loaded == ["a", "b"]


def test_a_text_is_loaded_again_after_anybodys_change(nft, texts):
    texts.load(nft, "a")
    nft.delete_table()
    texts.load(nft, "a")
    assert nft.loaded == ["a", "a"]


def test_a_change_during_the_load_is_not_taken_for_the_load(nft, texts):
    class Meddled(FakeNft):
        def load(self, ruleset):
            super().load(ruleset)
            self.delete_table()

    meddled = Meddled(TABLE)
    for _ in range(2):
        texts.load(meddled, "a")
    assert meddled.loaded == ["a", "a"]
