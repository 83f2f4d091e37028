"""Tokenizers for the tests of features: a quick stand-in with the golden vocabulary, and PaddleNLP's own."""

from pathlib import Path

import pytest

from cluebench.features import TextEncoder
from tests.features.standin import StandIn

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="session")
def golden_tokens():
    """The WordPiece vocabulary behind tests/golden/features.jsonl, in order."""
    return (GOLDEN / "vocab.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def encoder(golden_tokens):
    """A TextEncoder over the stand-in tokenizer."""
    return TextEncoder(StandIn(golden_tokens))


@pytest.fixture(scope="session")
def paddlenlp_transformers():
    """PaddleNLP's tokenizer classes; importing them takes seconds, so only tests marked slow ask for them."""
    return pytest.importorskip("paddlenlp.transformers")
