"""What every chat format has to do, as tests to inherit.

A plugin's test file::

    class TestShout(ChatFormatConformance):
        raw_answers = ["<call>get_weather</call>"]

        @pytest.fixture
        def chat_format(self):
            return ShoutFormat()
"""

from __future__ import annotations

import copy
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import evolve

from jarvis_core.chat import prompt_of
from jarvis_core.composition import answer_syntax, compose_constraint
from jarvis_core.errors import RequestError, UnsupportedParameter
from jarvis_core.interfaces import ChatFormat
from jarvis_core.structs import (
    Capabilities,
    ChatRequest,
    Constraint,
    FormatContext,
    Message,
    ModelInfo,
    Prompt,
    SegmentKind,
    ToolChoice,
)
from jarvis_core.testing.constrained_answers import (
    Asked,
    check_forced,
    check_governed,
    forced_requests,
    governed_requests,
    models_like,
    strict_requests,
)
from jarvis_core.testing.format_samples import (
    ASKED_OF_TEMPLATES,
    CONTROL_TOKENS,
    RAW_ANSWERS,
    WEATHER,
    chat,
    conversations,
    mangled,
    odd_conversations,
    plain_texts,
    random_chunkings,
    random_chunks,
    sent_back,
)
from jarvis_core.testing.formats import parse_with, render_with
from jarvis_core.testing.goldens import Case, chunkings, parse_agrees, render_agrees

if TYPE_CHECKING:
    from jarvis_core.testing.sampling import Sampler


class ChatFormatConformance:
    """Inherit, and give a fixture ``chat_format``.

    Attributes:
        model: The model that the format is tried with. Its control tokens are those that no text
            of a user may turn into, and that marks of calls and of reasoning are.
        ends: Texts that end something where a constraint allows any text, as a mark behind strings:
            answers under a constraint are made up at random, and hit upon none.
        raw_answers: Raw answers in the format's own syntax, to be cut in every way.
        render_goldens: Golden cases of prompts, see ``jarvis_core.testing.goldens``.
        parse_goldens: Golden cases of answers.
    """

    model: ClassVar[ModelInfo] = ModelInfo(
        name="conformance",
        source="conformance",
        engine="none",
        context_length=8192,
        capabilities=Capabilities(),
        control_tokens=CONTROL_TOKENS,
    )
    ends: ClassVar[Sequence[str]] = ()
    raw_answers: ClassVar[Sequence[str]] = ()
    render_goldens: ClassVar[Sequence[Case]] = ()
    parse_goldens: ClassVar[Sequence[Case]] = ()

    @property
    def context(self) -> FormatContext:
        """The context of every rendering here."""
        return FormatContext(model=self.model, now=datetime(2025, 1, 2))

    # -- rendering -------------------------------------------------------------------------

    def test_its_name_is_what_an_operator_can_write(self, chat_format: ChatFormat) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", chat_format.name)

    def test_rendering_is_pure(self, chat_format: ChatFormat) -> None:
        for request in conversations("Hello"):
            before = copy.deepcopy(request)
            first = self._render(chat_format, request)
            assert self._render(chat_format, request) == first
            assert request == before, "render changed the request"

    def test_a_simple_chat_is_rendered(self, chat_format: ChatFormat) -> None:
        prompt = chat_format.render(chat("Where is the harbour?"), self.context)
        assert "Where is the harbour?" in prompt.text
        assert all(isinstance(stop, str) and stop for stop in prompt.stop)

    def test_what_is_not_rendered_is_refused_as_a_request_error(
        self, chat_format: ChatFormat
    ) -> None:
        for request in odd_conversations():
            self._render(chat_format, request)

    def test_nothing_that_is_asked_of_a_template_is_ignored_in_silence(
        self, chat_format: ChatFormat
    ) -> None:
        plain = self._render(chat_format, chat("Hello"))
        for values in ASKED_OF_TEMPLATES:
            asked = [evolve(chat("Hello"), **value) for value in values]
            prompts = [self._render(chat_format, request) for request in asked]
            assert any(prompt != plain for prompt in prompts), asked

    def test_no_message_is_lost(self, chat_format: ChatFormat) -> None:
        for request in conversations("qwertz"):
            prompt = self._render(chat_format, request)
            if prompt is not None:
                for message in request.messages:
                    assert _text(message).strip() in prompt.text, message

    def test_control_tokens_of_a_user_stay_text(self, chat_format: ChatFormat) -> None:
        tokens = self.model.control_tokens
        for token in tokens:
            harmless = [self._render(chat_format, r) for r in conversations("a word")]
            smuggled = [self._render(chat_format, r) for r in conversations(f"a {token} word")]
            assert any(smuggled), "every conversation is refused"
            for one, other in zip(harmless, smuggled, strict=True):
                if one is not None and other is not None:
                    assert _control(one, tokens) == _control(other, tokens), token

    def test_golden_prompts_are_equal(self, chat_format: ChatFormat) -> None:
        for case in self.render_goldens:
            outcome = _outcome(chat_format, case)
            assert render_agrees(case, outcome), (case["name"], outcome)

    # -- parsing ---------------------------------------------------------------------------

    def test_where_an_answer_is_cut_carries_no_meaning(self, chat_format: ChatFormat) -> None:
        for raw in (*RAW_ANSWERS, *self.raw_answers):
            whole = self._parse(chat_format, [raw])
            for chunks in (*chunkings(raw), *random_chunkings(raw, 20)):
                assert self._parse(chat_format, chunks) == whole, chunks

    def test_every_answer_has_its_own_parser(self, chat_format: ChatFormat) -> None:
        request, context = chat("Hello", tools=(WEATHER,)), self.context
        prompt = chat_format.render(request, context)
        for raw in (*RAW_ANSWERS, *self.raw_answers):
            for cut in (len(raw) // 2, len(raw) - 1):
                first, second = (chat_format.parser(request, context, prompt) for _ in range(2))
                list(first.feed(raw[:cut]))
                alone = [*second.feed("two"), *second.finish()]
                assert "".join(d.content + d.reasoning for d in alone) == "two"

    def test_plain_text_comes_back_to_the_character(self, chat_format: ChatFormat) -> None:
        for raw in plain_texts():
            for tools in (True, False):
                result = self._parse(chat_format, random_chunks(raw, random.Random(1)), tools)
                text = (result["reasoning"] or "") + (result["content"] or "")
                assert text == raw
                assert not result["tool_calls"]

    def test_no_word_of_an_answer_is_lost(self, chat_format: ChatFormat) -> None:
        for raw in mangled((*RAW_ANSWERS, *self.raw_answers)):
            result = self._parse(chat_format, [raw])
            for number in re.findall(r"\d{4,}", raw):
                assert number in str(result), (number, raw)

    def test_an_answer_can_be_sent_back(self, chat_format: ChatFormat) -> None:
        raws = (*RAW_ANSWERS, *self.raw_answers)
        for raw in (*raws, *mangled(raws)):
            result = self._parse(chat_format, [raw])
            for request in sent_back(result):
                prompt_of(request, chat_format, self.context)

    def test_golden_answers_are_parsed(self, chat_format: ChatFormat) -> None:
        for case in self.parse_goldens:
            for chunks in chunkings(case["raw"]):
                result = parse_with(chat_format, case, chunks)
                assert parse_agrees(case, result), (case["name"], chunks, result)

    # -- constraints -----------------------------------------------------------------------

    def test_a_forced_choice_gives_a_constraint_or_none(self, chat_format: ChatFormat) -> None:
        for request in forced_requests():
            constraint = chat_format.tool_grammar(request, self.context)
            assert constraint is None or isinstance(constraint, Constraint)

    def test_what_a_forced_choice_makes_a_model_write_is_read_as_that_call(
        self, chat_format: ChatFormat
    ) -> None:
        for request in forced_requests():
            for asked, sampler in self._sampled(chat_format, request):
                for seed in range(6):
                    check_forced(asked, sampler.sample(random.Random(seed)))

    def test_content_obeys_its_schema_after_any_reasoning(self, chat_format: ChatFormat) -> None:
        for request in governed_requests():
            for asked, sampler in self._sampled(chat_format, request):
                for seed in range(15):
                    check_governed(asked, sampler.sample(random.Random(seed)))

    def test_calls_that_may_be_made_are_right_if_they_are(self, chat_format: ChatFormat) -> None:
        for request in strict_requests():
            forced = evolve(request, tool_choice=ToolChoice(mode="required"))
            free = self._sampled(chat_format, request)
            for (_, sampler), (_, calls) in zip(
                free, self._sampled(chat_format, forced), strict=False
            ):
                for seed in range(8):
                    raw = calls.sample(random.Random(seed))
                    assert sampler.accepts(raw), raw
                    assert not sampler.accepts(raw[:-1] + "\0"), raw

    def _sampled(
        self, chat_format: ChatFormat, request: ChatRequest
    ) -> Iterator[tuple[Asked, Sampler]]:
        """A request to models of several kinds, and answers under what the core composes for it.

        Nothing where the format cannot write it.
        """
        from jarvis_core.testing.sampling import Sampler  # needs llguidance

        for context in self._contexts(chat_format, request):
            asked = Asked.of(chat_format, request, context)
            syntax = answer_syntax(request, chat_format, context, asked.prompt)
            try:
                constraint = compose_constraint(request, chat_format, context, asked.prompt)
            except UnsupportedParameter:
                continue
            assert constraint is not None
            hints = (syntax.opening, syntax.closing, *self.ends)
            yield asked, Sampler(constraint, context.model, hints=hints)

    def _contexts(self, chat_format: ChatFormat, request: ChatRequest) -> Iterator[FormatContext]:
        """Contexts in which the marks of an answer are text, and in which they are tokens."""
        from jarvis_core.testing.sampling import Sampler

        able = Capabilities(constraints=frozenset({"json_schema", "lark"}))
        plain = evolve(self.context, model=evolve(self.model, capabilities=able, control_tokens=()))
        syntax = answer_syntax(request, chat_format, plain, chat_format.render(request, plain))
        written = syntax.opening + syntax.closing + syntax.before_content
        calls = evolve(request, tool_choice=ToolChoice(mode="required"))
        if request.tools and (constraint := chat_format.tool_grammar(calls, plain)):
            written += Sampler(constraint, plain.model, hints=self.ends).sample(random.Random(0))
        for model in models_like(plain.model, written, self.model.control_tokens):
            yield evolve(plain, model=model)

    def _render(self, chat_format: ChatFormat, request: ChatRequest) -> Prompt | None:
        """The prompt, None where the format refuses."""
        try:
            return chat_format.render(request, self.context)
        except RequestError:
            return None

    def _parse(
        self, chat_format: ChatFormat, chunks: Sequence[str], tools: bool = True
    ) -> dict[str, Any]:
        result = parse_with(chat_format, {"engine_finish": "stop", "tools": tools}, chunks)
        for call in result["tool_calls"]:
            call.pop("id")  # the core makes it up where the model wrote none
        return result


def _outcome(chat_format: ChatFormat, case: Case) -> str | Exception:
    try:
        return render_with(chat_format, case)
    except RequestError as error:
        return error


def _text(message: Message) -> str:
    return message.content if isinstance(message.content, str) else ""


def _control(prompt: Prompt, tokens: Sequence[str]) -> Counter[str]:
    """How often each control token stands where it would become one."""
    found: Counter[str] = Counter()
    for segment in prompt.segments:
        if segment.kind is SegmentKind.SCAFFOLD:
            found.update({token: segment.text.count(token) for token in tokens})
    return +found
