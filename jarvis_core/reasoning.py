"""Reasoning: whether a model is asked to think, and its thinking told from its answer."""

from __future__ import annotations

from collections.abc import Iterable

from jarvis_core.errors import RequestError
from jarvis_core.interfaces import DeltaParser
from jarvis_core.parsing import MarkerSearch
from jarvis_core.rendering import text_of
from jarvis_core.structs import ChatRequest, Delta

_SPACES = " \t\r\n"


def thinking_wanted(request: ChatRequest, *, default: bool) -> bool:
    """Whether the model is to think before it answers.

    ``enable_thinking`` says so; without it ``reasoning_effort``, of which ``none`` is no thinking.

    Raises:
        RequestError: ``enable_thinking`` is not true or false.
    """
    asked = request.template_kwargs.get("enable_thinking")
    if asked is None:
        effort = request.reasoning_effort
        return default if effort is None else effort != "none"
    if not isinstance(asked, bool):
        raise RequestError(
            "enable_thinking must be true or false", param="chat_template_kwargs.enable_thinking"
        )
    return asked


def continues_reasoning(request: ChatRequest, *, opening: str, closing: str) -> bool:
    """Whether the message that is to be continued has begun to think and has not come to an end."""
    if not request.continue_final_message or not request.messages:
        return False
    text = text_of(request.messages[-1]).lstrip(_SPACES)
    return text.startswith(opening) and closing not in text


class ReasoningParser:
    """A ``DeltaParser`` for answers that may begin with reasoning between two markers.

    What follows is left to another parser. Reasoning counts only where the answer begins: markers
    further on are text. White space next to a marker is glue and is not sent.
    """

    def __init__(
        self,
        answer: DeltaParser,
        *,
        opening: str = "<think>",
        closing: str = "</think>",
        inside: bool = False,
    ) -> None:
        """Parse one answer.

        Args:
            answer: Parses what comes after the reasoning, or everything if there is none.
            opening: The marker before the reasoning.
            closing: The marker behind it.
            inside: The prompt has opened the reasoning; a model may say ``opening`` once more.
        """
        self._answer = answer
        self._opening = opening
        self._closing = MarkerSearch([closing])
        self._inside = inside
        self._step = self._at_start
        self._gap: list[str] = []
        self._read = ""
        self._begun = False
        self._out: list[Delta] = []

    def feed(self, text: str) -> Iterable[Delta]:
        """Deltas that are certain now that ``text`` has come."""
        if self._step == self._in_answer:
            return self._answer.feed(text)
        self._out = []
        while text:
            text = self._step(text)
        return self._out

    def finish(self) -> Iterable[Delta]:
        """What was held back."""
        self._out = []
        rest = "".join(self._gap) + self._read + self._closing.finish()
        if self._step == self._in_reasoning or (self._inside and self._step == self._at_start):
            self._think(rest)
        elif rest:
            self._in_answer(rest)
        return [*self._out, *self._answer.finish()]

    # Each step takes the text at hand and returns what is left of it for the next step.

    def _at_start(self, text: str) -> str:
        if not self._read:
            text = self._skip_spaces(text)
        self._read += text
        if len(self._read) < len(self._opening) and self._opening.startswith(self._read):
            return ""
        read, self._read = self._read, ""
        if read.startswith(self._opening):
            read = read[len(self._opening) :]
        elif not self._inside:
            self._step = self._in_answer
            read = "".join(self._gap) + read
            self._gap.clear()
            return read
        self._gap.clear()
        self._step = self._in_reasoning
        return read

    def _in_reasoning(self, text: str) -> str:
        before, marker, after = self._closing.feed(text)
        if not self._begun:
            before = before.lstrip(_SPACES)
        body = before.rstrip(_SPACES)
        if body:
            self._think("".join(self._gap) + body)
            self._gap.clear()
        if len(body) < len(before):
            self._gap.append(before[len(body) :])
        if marker is None:
            return ""
        self._gap.clear()
        self._step = self._behind
        return after

    def _behind(self, text: str) -> str:
        """Right behind the reasoning: nothing but white space has come."""
        text = self._skip_spaces(text)
        self._gap.clear()
        if text:
            self._step = self._in_answer
        return text

    def _in_answer(self, text: str) -> str:
        self._out.extend(self._answer.feed(text))
        return ""

    def _skip_spaces(self, text: str) -> str:
        body = text.lstrip(_SPACES)
        if len(body) < len(text):
            self._gap.append(text[: len(text) - len(body)])
        return body

    def _think(self, text: str) -> None:
        if text:
            self._begun = True
            self._out.append(Delta(reasoning=text))
