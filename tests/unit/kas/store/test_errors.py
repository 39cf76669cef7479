from __future__ import annotations

from kas.errors import KasError
from kas.store import InvalidValue, Refused


def test_both_are_sentences_for_the_user():
    assert issubclass(InvalidValue, KasError)
    assert str(Refused()) == "What was asked does not fit what is stored."
