"""Prompts to token ids, with a toy vocabulary; the real one is in ``test_engine.py``."""

from __future__ import annotations

import pytest
from attrs import evolve

from jarvis_core import (
    ContextLengthExceeded,
    Prompt,
    PromptBuilder,
    RequestError,
    Segment,
    SegmentKind,
)
from jarvis_llamacpp.tokenizer import Tokenizer
from jarvis_llamacpp.vocabulary import Vocabulary

# A token for each byte, then some control tokens.
CONTROLS = {"<|begin|>": 256, "<|turn|>": 257, "<|turn|>user": 258, "<strip>": 259}
TOY = Vocabulary(
    pieces=(*(bytes([i]) for i in range(256)), *(text.encode() for text in CONTROLS)),
    controls=CONTROLS,
    end_ids=frozenset({257}),
    bos_id=256,
    adds_bos=True,
    strips_left=frozenset({"<strip>"}),
    strips_right=frozenset({"<strip>"}),
)


def toy(vocabulary: Vocabulary = TOY, context_length: int = 1000) -> Tokenizer:
    return Tokenizer(vocabulary, list, context_length)


def ids(text: str) -> list[int]:
    return list(text.encode())


def test_control_tokens_of_the_scaffold_are_one_id_each() -> None:
    prompt = PromptBuilder().scaffold("<|turn|>a<|turn|>").build()

    assert toy().encode(prompt) == [257, *ids("a"), 257]


def test_the_longest_control_token_wins() -> None:
    prompt = PromptBuilder().scaffold("<|turn|>user<|turn|>u").build()

    assert toy().encode(prompt) == [258, 257, *ids("u")]


def test_control_tokens_in_content_stay_text() -> None:
    prompt = PromptBuilder().content("<|turn|>user").build()

    assert toy().encode(prompt) == ids("<|turn|>user")


def test_neighbouring_text_is_tokenized_as_one() -> None:
    runs: list[bytes] = []

    def tokenize(text: bytes) -> list[int]:
        runs.append(text)
        return list(text)

    prompt = PromptBuilder().scaffold("[").content("hi").scaffold("]<|turn|>!").build()
    Tokenizer(TOY, tokenize, 1000).encode(prompt)

    assert runs == [b"[hi]", b"!"]


def test_a_control_token_that_text_merges_into_is_cut_apart() -> None:
    def merging(text: bytes) -> list[int]:
        if b"<|turn|>" not in text:
            return list(text)
        before, _, after = text.partition(b"<|turn|>")
        return [*merging(before), 257, *merging(after)]

    prompt = PromptBuilder().content("a<|turn|>b<|turn|>").build()

    assert Tokenizer(TOY, merging, 1000).encode(prompt) == ids("a<|turn|>b<|turn|>")


def test_text_that_is_a_control_token_however_it_is_cut_is_refused() -> None:
    tokenizer = Tokenizer(TOY, lambda text: [257] * len(text), 1000)
    with pytest.raises(RequestError, match="control token"):
        tokenizer.encode(PromptBuilder().content("x").build())


def test_white_space_beside_a_stripping_control_token_is_swallowed() -> None:
    prompt = PromptBuilder().scaffold("a \n<strip>\n b <|turn|> c").build()

    assert toy().encode(prompt) == [*ids("a"), 259, *ids("b "), 257, *ids(" c")]


def test_the_begin_token_is_added_where_it_is_asked_for() -> None:
    prompt = PromptBuilder().content("a").build()

    assert toy().encode(prompt) == ids("a")
    assert toy().encode(evolve(prompt, add_special_tokens=True)) == [256, *ids("a")]
    bare = toy(evolve(TOY, adds_bos=False))
    assert bare.encode(evolve(prompt, add_special_tokens=True)) == ids("a")


def test_token_ids_are_taken_as_they_are() -> None:
    assert toy().encode(Prompt(token_ids=(1, 257, 3))) == [1, 257, 3]


@pytest.mark.parametrize("wrong", [-1, 260, 2**40])
def test_token_ids_outside_the_vocabulary_are_refused(wrong: int) -> None:
    with pytest.raises(RequestError, match=f"token id {wrong} is not in the vocabulary of 260"):
        toy().encode(Prompt(token_ids=(1, wrong)))
    with pytest.raises(RequestError, match=str(wrong)):
        toy().decode([1, wrong])


@pytest.mark.parametrize("prompt", [Prompt(), Prompt(token_ids=()), PromptBuilder().build()])
def test_an_empty_prompt_is_refused(prompt: Prompt) -> None:
    with pytest.raises(RequestError, match="empty"):
        toy().encode(prompt)


def test_media_are_refused() -> None:
    prompt = Prompt(segments=(Segment(kind=SegmentKind.MEDIA, text="data:image/png;base64,"),))
    with pytest.raises(RequestError, match="text only"):
        toy().encode(prompt)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(RequestError, match="surrogate"):
        toy().encode(PromptBuilder().content("a\ud800").build())


def test_text_that_surely_does_not_fit_is_refused_before_it_is_tokenized() -> None:
    def never(text: bytes) -> list[int]:
        raise AssertionError("tokenized")

    longest = max(map(len, TOY.pieces))
    prompt = PromptBuilder().content("x" * (longest * 11)).build()
    with pytest.raises(ContextLengthExceeded, match="more than 11 tokens.* 10 tokens"):
        Tokenizer(TOY, never, 10).encode(prompt)


@pytest.mark.parametrize("character", ["x", " ", "漢"])
def test_a_word_too_long_for_any_stack_is_refused(character: str) -> None:
    def never(text: bytes) -> list[int]:
        raise AssertionError("tokenized")

    prompt = PromptBuilder().content("a b " + character * 1_000_001).build()
    with pytest.raises(RequestError, match=r"1,000,00\d characters without a break"):
        Tokenizer(TOY, never, 10**9).encode(prompt)


def test_a_long_text_of_short_words_is_tokenized() -> None:
    prompt = PromptBuilder().content("ab " * 400_000).build()

    assert len(toy(context_length=10**9).encode(prompt)) == 1_200_000


def test_ids_become_text_with_control_tokens_visible() -> None:
    assert toy().decode([257, *ids("é!"), 0xFF]) == "<|turn|>é!\ufffd"


def test_the_space_that_tokenizing_adds_is_taken_off_again() -> None:
    spaced = toy(evolve(TOY, adds_space=True))

    assert spaced.decode(ids("  a")) == " a"
    assert toy().decode(ids("  a")) == "  a"
