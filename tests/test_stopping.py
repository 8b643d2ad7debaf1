"""Stop strings in text that arrives in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarvis_core.stopping import StopStrings


def run(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    """All text emitted, and the stop string found."""
    matcher = StopStrings(stops)
    emitted = []
    for piece in pieces:
        text, hit = matcher.feed(piece)
        emitted.append(text)
        if hit is not None:
            return "".join(emitted), hit
    return "".join(emitted) + matcher.finish(), None


def first_match(stops: list[str], text: str) -> tuple[str, str | None]:
    """What must come out, found by trying every ending of every beginning."""
    for end in range(1, len(text) + 1):
        for start in range(end):
            if text[start:end] in stops:
                return text[:start], text[start:end]
    return text, None


def test_text_before_the_stop_string_comes_out_and_nothing_after_it() -> None:
    assert run(["END"], ["one END two"]) == ("one ", "END")


def test_a_stop_string_across_pieces_is_found() -> None:
    assert run(["<|im_end|>"], ["hi<", "|im", "_end", "|> more"]) == ("hi", "<|im_end|>")


def test_only_a_possible_start_is_held_back() -> None:
    matcher = StopStrings(["stop"])
    assert matcher.feed("a st") == ("a ", None)
    assert matcher.feed("ar") == ("star", None)


def test_finish_gives_back_what_was_held() -> None:
    matcher = StopStrings(["stop"])
    assert matcher.feed("do not sto") == ("do not ", None)
    assert matcher.finish() == "sto"
    assert matcher.finish() == ""


def test_the_match_that_is_complete_first_wins() -> None:
    assert run(["abcd", "bc"], ["abcd"]) == ("a", "bc")


def test_of_matches_that_end_together_the_longest_wins() -> None:
    assert run(["b", "ab"], ["xab"]) == ("x", "ab")


def test_an_overlapping_start_is_kept_after_a_mismatch() -> None:
    assert run(["aab"], ["aa", "ab"]) == ("a", "aab")


@pytest.mark.parametrize("stops", [[], [""]])
def test_without_stop_strings_everything_comes_out_at_once(stops: list[str]) -> None:
    matcher = StopStrings(stops)
    assert not matcher
    assert matcher.feed("text") == ("text", None)


def test_text_that_cannot_start_a_stop_string_is_not_delayed() -> None:
    matcher = StopStrings(["\n\n"])
    for word in ["nothing", " is", " held", ""]:
        assert matcher.feed(word) == (word, None)


@given(
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3),
    text=st.text("ab\n", max_size=24),
    data=st.data(),
)
def test_every_chunking_gives_the_first_complete_match(
    stops: list[str], text: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert run(stops, pieces) == first_match(stops, text)


@given(stops=st.lists(st.text("abc", min_size=1, max_size=5), min_size=1), text=st.text("abc"))
def test_what_is_emitted_never_has_to_be_taken_back(stops: list[str], text: str) -> None:
    expected, _ = first_match(stops, text)
    matcher = StopStrings(stops)
    emitted = ""
    for character in text:
        piece, hit = matcher.feed(character)
        emitted += piece
        assert expected.startswith(emitted)
        if hit is not None:
            break
