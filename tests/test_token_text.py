"""From the bytes of tokens to text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarvis_core.token_text import TextStream, read_pieces


def stream(pieces: Sequence[bytes], *stops: str) -> TextStream:
    return TextStream(pieces, read_pieces(pieces), stops)


def test_a_character_across_tokens_comes_when_it_is_whole() -> None:
    text = stream([b"a", b"\xf0\x9f", b"\x8e", b"\x89!"])

    assert [text.add(i) for i in range(4)] == ["a", "", "", "🎉!"]
    assert text.finish() == ""


def test_the_start_of_a_character_whose_rest_never_comes_is_dropped() -> None:
    text = stream([b"a\xf0\x9f"])

    assert text.add(0) == "a"
    assert text.finish() == ""


def test_bytes_that_are_no_character_are_replaced_and_the_rest_goes_on() -> None:
    text = stream([b"\xff", b"ok"])

    assert text.add(0) + text.add(1) + text.finish() == "\ufffdok"


def test_whole_characters_after_a_broken_one_are_not_lost() -> None:
    text = stream([b"\xe4\xb8", "世".encode(), b"!"])

    assert text.add(0) + text.add(1) + text.add(2) == "\ufffd世!"


def test_a_stop_string_across_tokens_ends_the_text() -> None:
    text = stream([b"one", b" E", b"ND", b" two"], "END")

    assert [text.add(i) for i in range(3)] == ["one", " ", ""]
    assert text.stop_string == "END"


def test_a_stop_string_inside_one_token_ends_the_text() -> None:
    text = stream([b"one\n\ntwo"], "\n\n")

    assert text.add(0) == "one"
    assert text.stop_string == "\n\n"


def test_a_stop_string_made_of_cut_characters_is_found() -> None:
    text = stream([b"a\xe4\xb8", b"\x96b"], "世")

    assert text.add(0) + text.add(1) == "a"
    assert text.stop_string == "世"


def test_the_start_of_a_stop_string_comes_out_at_the_end() -> None:
    text = stream([b"one E"], "END")

    assert (text.add(0), text.finish(), text.stop_string) == ("one ", "E", None)


def test_text_that_may_not_stop_yet_passes_stop_strings() -> None:
    text = stream([b"END", b"END"], "END")

    assert (text.add(0, may_stop=False), text.stop_string) == ("END", None)
    assert (text.add(1), text.stop_string) == ("", "END")


@pytest.mark.parametrize("stops", [(), ("never this",)])
@given(text=st.text(), data=st.data())
def test_every_cut_of_the_bytes_gives_the_text(
    stops: tuple[str, ...], text: str, data: st.DataObject
) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found = stream(pieces, *stops)
    parts = [found.add(i) for i in range(len(pieces))]

    assert "".join(parts) + found.finish() == text
    assert "\ufffd" in text or not any("\ufffd" in part for part in parts)
