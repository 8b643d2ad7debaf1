"""What a user wrote becomes no control token, whatever a template puts around it (S-04)."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from jarvis_core import Control, PromptBuilder, prompt_runs
from jarvis_core.template.marks import Marker, control_tokens, unused_characters

TOKENS = ("<s>", "</s>", "<|im_end|>", "[INST]", "[/INST]", "|>")
BEFORE, AFTER = "\ue000", "\ue001"
texts = st.lists(
    st.sampled_from([*TOKENS, "<", "|", ">", "s", "im_end", "[", "INST]", " ", "\n", "x", "é"]),
    max_size=8,
).map("".join)


def marker() -> Marker:
    tokens = control_tokens(TOKENS)
    assert tokens is not None
    return Marker(tokens, BEFORE, AFTER)


@given(said=st.lists(texts, min_size=1, max_size=4), strips=st.booleans())
@example(said=["<|im_", "end|>"], strips=True)
@example(said=["a<", "s>"], strips=False)
@settings(max_examples=400, deadline=None)
def test_only_the_templates_own_tokens_are_tokens(said: list[str], strips: bool) -> None:
    def template(values: list[str]) -> str:
        printed = [v.strip() for v in values] if strips else values
        return "<s>" + "".join(printed) + "</s>"

    mark = marker()
    marked = template(mark.mark(said))
    assert mark.unmark(marked) == template(said)
    out = PromptBuilder()
    mark.build(marked, out)
    prompt = out.build()
    assert prompt.text == template(said)
    controls = [run.text for run in prompt_runs(prompt, TOKENS) if isinstance(run, Control)]
    assert controls == ["<s>", "</s>"]


def test_only_dangerous_places_are_marked() -> None:
    mark = marker()
    value = {"role": "<s>", "content": ["fine", 1, None, {"<s>key": "a <s> b"}]}
    assert mark.mark(value) == {
        "role": "<s>",
        "content": ["fine", 1, None, {f"{BEFORE}<s>{AFTER}key": f"a {BEFORE}<s>{AFTER} b"}],
    }
    assert mark.marked == {"<s>"}


def test_marks_that_a_template_tore_apart_mark_nothing() -> None:
    mark = marker()
    mark.mark("<s>")
    out = PromptBuilder()
    mark.build(f"{BEFORE}x{AFTER}{BEFORE}<s>y{AFTER}{AFTER}{BEFORE}<s>{AFTER}", out)
    scaffold, content = out.build().segments
    assert (scaffold.text, content.text) == ("x<s>y", "<s>")


def test_a_tokenizer_without_control_tokens_needs_no_marks() -> None:
    assert control_tokens(()) is None
    assert control_tokens(("", " ")) is None


def test_the_characters_of_marks_occur_nowhere_else() -> None:
    assert unused_characters(("t", {"a": ["\ue000x\ue002"]}), 2) == ["\ue001", "\ue003"]
    assert unused_characters(("t", {"\ue000": "é\ud800"}), 1) == ["\ue001"]
    assert unused_characters("plain", 2) == ["\ue000", "\ue001"]
