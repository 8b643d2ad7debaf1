from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Fast

from jarvis_core import (
    ContextLengthExceeded,
    Prompt,
    PromptBuilder,
    RequestError,
    Segment,
    SegmentKind,
)
from jarvis_vllm.tokenizer import Tokenizer
from jarvis_vllm.vocabulary import Vocabulary, read_vocabulary

CONTROLS = ("<s>", "</s>", "<|user|>")


def byte_level() -> Fast:
    """One token for each byte, one merge, and three control tokens behind them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(letters)} | {"ab": 256}
    fast = Fast(models.BPE(vocab=vocab, merges=[("a", "b")]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([AddedToken(text, special=True) for text in CONTROLS])
    fast.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("zz", special=False)])
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[("<s>", 257), ("</s>", 258)],
    )
    return fast


def sentencepiece() -> Fast:
    """A vocabulary as Llama 2 has: spaces are ``▁``, bytes are tokens, one space goes in front."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{i:02X}>": 3 + i for i in range(256)}
    for text in ("▁", "a", "b", "▁a", "ab"):
        vocab[text] = len(vocab)
    merges = [("▁", "a"), ("a", "b")]
    fast = Fast(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    fast.add_special_tokens([AddedToken(text, special=True) for text in ("<s>", "</s>")])
    return fast


def make(fast: Fast, context_length: int = 1000) -> tuple[Tokenizer, Vocabulary]:
    vocabulary = read_vocabulary(fast, bos_token="<s>", eos_token="</s>")
    return Tokenizer(fast, vocabulary, context_length), vocabulary


BYTES, BYTES_VOCABULARY = make(byte_level())


def content(text: str) -> Prompt:
    return PromptBuilder().content(text).build()


def scaffold(text: str) -> Prompt:
    return PromptBuilder().scaffold(text).build()


def test_control_tokens_are_special_tokens_and_markup_of_tools() -> None:
    assert list(BYTES_VOCABULARY.controls) == [*CONTROLS, "<tool_call>"]
    assert "zz" not in BYTES_VOCABULARY.controls


def test_pieces_are_the_bytes_behind_the_tokens() -> None:
    ids = BYTES.encode(content("abc Grüße 🎉"))

    assert b"".join(BYTES_VOCABULARY.pieces[i] for i in ids).decode() == "abc Grüße 🎉"
    assert BYTES_VOCABULARY.pieces[256] == b"ab"
    assert BYTES_VOCABULARY.pieces[257] == b"<s>"


def test_pieces_of_sentencepiece_have_spaces_and_bytes() -> None:
    _, vocabulary = make(sentencepiece())

    assert vocabulary.pieces[vocabulary.size - 2 :] == (b" a", b"ab")
    assert vocabulary.pieces[3 + 0xE2] == b"\xe2"


def test_scaffold_and_content_are_tokenized_as_the_whole_text() -> None:
    fast = byte_level()
    prompt = PromptBuilder().scaffold("<|user|>a").content("b c").scaffold("</s>\n").build()

    assert BYTES.encode(prompt) == fast.encode(prompt.text, add_special_tokens=False).ids


def test_only_the_first_run_gets_the_space_of_sentencepiece() -> None:
    fast = sentencepiece()
    tokenizer, _ = make(fast)
    prompt = PromptBuilder().scaffold("a<s>").content("a b").scaffold("</s>a").build()

    assert tokenizer.encode(prompt) == fast.encode(prompt.text, add_special_tokens=False).ids


PARTS = st.sampled_from([*"ab <>|/s", "<s>", "<|user|>", "<tool_call>", "é", "🎉"])


@given(st.lists(PARTS).map("".join))
def test_no_content_becomes_a_control_token(text: str) -> None:
    ids = BYTES.encode(PromptBuilder().scaffold("<s>x").content(text).scaffold("</s>").build())

    assert [i for i in ids if i in BYTES_VOCABULARY.controls.values()] == [257, 258]
    assert BYTES.decode(ids) == f"<s>x{text}</s>"


def test_control_tokens_of_the_scaffold_are_one_id_each() -> None:
    for text, token_id in BYTES_VOCABULARY.controls.items():
        assert BYTES.encode(scaffold(text)) == [token_id]


def test_tokens_of_its_own_come_where_they_are_wanted() -> None:
    prompt = Prompt(
        segments=(Segment(kind=SegmentKind.CONTENT, text="ab"),), add_special_tokens=True
    )

    assert BYTES.encode(prompt) == [257, 256]
    assert BYTES.encode(content("ab")) == [256]


def test_a_pair_is_joined_as_the_model_wants_it() -> None:
    (ids, types), (other, _) = BYTES.encode_pairs("ab", ["<s>", "ab"])

    assert other == [257, 256, 258, 256, 258]
    assert ids[:3] == [257, 256, 258]
    assert ids[-1] == 258
    assert ids.count(257) == 1, "what a user wrote is no control token"
    assert types == [0] * 3 + [1] * (len(ids) - 3)


def test_of_several_prompts_only_those_that_cannot_be_tokenized_are_refused() -> None:
    prompts = [content("ab"), Prompt(token_ids=(1, 2)), content(""), content("<s>"), Prompt()]

    found = BYTES.encode_each(prompts)

    assert found[:2] == [[256], [1, 2]]
    assert found[3] == BYTES.encode(content("<s>"))
    for at in (2, 4):
        assert isinstance(found[at], RequestError)
    assert BYTES.encode_each([]) == []


def test_token_ids_are_taken_as_they_are() -> None:
    assert BYTES.encode(Prompt(token_ids=(1, 2, 3))) == [1, 2, 3]


@pytest.mark.parametrize("wrong", [-1, BYTES_VOCABULARY.size, 2**40])
def test_an_id_outside_of_the_vocabulary_is_named(wrong: int) -> None:
    for use in (lambda ids: BYTES.encode(Prompt(token_ids=tuple(ids))), BYTES.decode):
        with pytest.raises(RequestError, match=rf"token id {wrong} is not in the vocabulary of"):
            use([1, wrong])


def test_a_text_longer_than_any_that_fits_is_not_tokenized() -> None:
    tokenizer, _ = make(byte_level(), context_length=10)
    with pytest.raises(ContextLengthExceeded, match="more than 90 tokens, and the context length"):
        tokenizer.encode(content("a" * 1000))


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (Prompt(), "the prompt is empty"),
        (content("\ud800"), "a surrogate that is not a character"),
        (Prompt(segments=(Segment(kind=SegmentKind.MEDIA, text="data:"),)), "takes text only"),
    ],
)
def test_what_cannot_be_tokenized_is_refused(prompt: Prompt, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        BYTES.encode(prompt)


def test_other_decoders_are_asked_for_each_token() -> None:
    fast = Fast(models.WordLevel(vocab={"one": 0, "two": 1}, unk_token="one"))
    fast.decoder = decoders.WordPiece()

    assert read_vocabulary(fast).pieces == (b"one", b"two")


def test_names_of_control_tokens_cannot_be_guessed() -> None:
    other, _ = make(byte_level())
    names: dict[str, Any] = {}
    for tokenizer in (BYTES, other):
        spec = json.loads(tokenizer._renamed.to_str())
        names[id(tokenizer)] = {t["content"] for t in spec["added_tokens"] if t["id"] == 257}

    assert len(set.union(*names.values())) == 2
