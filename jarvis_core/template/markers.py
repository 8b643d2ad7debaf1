"""How models answer whose template holds a known marker: their calls of tools and their reasoning.

A template prints past calls and thoughts as the model writes new ones, so what it marks them with
says how to read answers. Only markers are known here, no models.
"""

from __future__ import annotations

from functools import lru_cache

from attrs import field, frozen

from jarvis_core.framing import FramedParser
from jarvis_core.grammar import AnswerSyntax
from jarvis_core.interfaces import DeltaParser
from jarvis_core.parsing import TextParser, may_call_tools
from jarvis_core.reasoning import ReasoningParser, continues_reasoning
from jarvis_core.structs import ChatRequest, Prompt
from jarvis_core.template.call_style import CallStyle
from jarvis_core.template.styles import STYLES


@frozen
class Pair:
    """Two marks with text between them.

    Attributes:
        opening: The first.
        closing: The second.
        known_by: What a template holds whose model writes them; empty where it is the second.
    """

    opening: str
    closing: str
    known_by: str = field(default="", kw_only=True)

    def fits(self, template: str) -> bool:
        """Whether the model of a template writes them."""
        return (self.known_by or self.closing) in template


REASONING = (
    Pair("<think>", "</think>"),
    Pair("[THINK]", "[/THINK]"),
    Pair("<|START_THINKING|>", "<|END_THINKING|>"),
    Pair("<seed:think>", "</seed:think>"),
    Pair("<thinking>", "</thinking>"),
    Pair("<think:opensource>", "</think:opensource>", known_by="'<think{}>'"),
    Pair("<|think|>", "<|end|><|begin|>assistant", known_by="<|begin|>assistant<|think|>"),
    Pair("<|open|>think<|sep|>", "<|close|>think<|sep|>", known_by="open_tag('think')"),
)
"""What reasoning stands between."""

FRAMES = (
    Pair("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    Pair("<|START_TEXT|>", "<|END_TEXT|>"),
    Pair("<|content|>", "<|end|>", known_by="<|begin|>assistant<|content|>"),
    Pair("<|open|>response<|sep|>", "<|close|>response<|sep|>", known_by="open_tag('response')"),
)
"""What the text of an answer stands between."""


@frozen(kw_only=True)
class Markers:
    """What is known about the answers to one template.

    Attributes:
        calls: How calls are written; None where that is not known.
        reasoning: What reasoning stands between; None where the template prints none.
        frame: What the text of an answer stands between; None where it stands alone.
    """

    calls: CallStyle | None = None
    reasoning: Pair | None = None
    frame: Pair | None = None

    def opens_reasoning(self, prompt: str, request: ChatRequest) -> bool:
        """Whether the prompt of a request ends inside of reasoning that it has opened."""
        if self.reasoning is None:
            return False
        opening, closing = self.reasoning.opening, self.reasoning.closing
        if request.continue_final_message:
            return continues_reasoning(request, opening=opening, closing=closing)
        return request.add_generation_prompt and prompt.rstrip().endswith(opening)

    def parser(self, request: ChatRequest, prompt: Prompt) -> DeltaParser:
        """A parser of one answer."""
        answer: DeltaParser = TextParser()
        if self.calls is not None and may_call_tools(request):
            answer = self.calls.parser(request)
        if self.frame is not None:
            answer = FramedParser(
                answer,
                opening=self.frame.opening,
                closing=self.frame.closing,
                inside=self._is_framed(request, prompt),
            )
        if self.reasoning is None:
            return answer
        return ReasoningParser(
            answer,
            opening=self.reasoning.opening,
            closing=self.reasoning.closing,
            inside=prompt.starts_in_reasoning,
        )

    def syntax(self, request: ChatRequest, prompt: Prompt) -> AnswerSyntax:
        """The same for constraints."""
        calls = self.calls.syntax if self.calls else None
        text = self.frame.opening if self.frame and not self._is_framed(request, prompt) else ""
        if self.reasoning is None or prompt.text.rstrip().endswith(self.reasoning.closing):
            return AnswerSyntax(before_content=text, calls=calls)
        return AnswerSyntax(
            opening=self.reasoning.opening,
            closing=self.reasoning.closing,
            before_content=text,
            calls=calls,
        )

    def _is_framed(self, request: ChatRequest, prompt: Prompt) -> bool:
        """Whether the prompt has begun the text of the answer."""
        assert self.frame is not None
        return request.continue_final_message or prompt.text.endswith(self.frame.opening)


@lru_cache(maxsize=32)  # one for each loaded model
def markers_of(template: str) -> Markers:
    """The known markers in a template."""
    return Markers(
        calls=next((style for style in STYLES if style.fits(template)), None),
        reasoning=next((pair for pair in REASONING if pair.fits(template)), None),
        frame=next((pair for pair in FRAMES if pair.fits(template)), None),
    )
