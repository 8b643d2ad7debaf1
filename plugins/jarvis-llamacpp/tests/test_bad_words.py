"""Texts that must not come."""

from __future__ import annotations

import pytest

from jarvis_core import RequestError
from jarvis_llamacpp.bad_words import BadWords, tokenize_words

IDS = {"bad": [1, 2], " bad": [9, 2], "odd": [3], " odd": [8, 3], "at": [4], " at": [4]}


def test_a_word_counts_at_the_start_and_after_a_space() -> None:
    assert tokenize_words(["bad"], IDS.__getitem__) == ((1, 2), (9, 2))


def test_a_spaced_form_that_is_no_other_word_is_left_out() -> None:
    assert tokenize_words([" odd", "at"], IDS.__getitem__) == ((3,), (4,))


def test_a_word_without_tokens_is_refused_by_its_place() -> None:
    with pytest.raises(RequestError, match=r"bad_words\[1\]") as caught:
        tokenize_words(["bad", " "], lambda text: IDS.get(text, []))

    assert caught.value.param == "bad_words[1]"


def test_the_last_token_of_a_word_is_banned_after_the_others() -> None:
    words = BadWords([(1, 2, 3), (2, 5), (7,)])
    seen = [set(words.next_ids())]
    for token in (1, 2, 3):
        words.add(token)
        seen.append(set(words.next_ids()))

    assert seen == [{7}, {7}, {7, 3, 5}, {7}]
