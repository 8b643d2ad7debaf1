"""Parts that are not text, in templates: where the template has a place for them.

A template prints the same text for each image, as ``<image>``. It is never given an image itself:
the engine says which text that is, and the places where it is printed are counted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from jarvis_core.errors import RequestError
from jarvis_core.rendering import PromptBuilder
from jarvis_core.structs import MediaPart, Message, ModelInfo, Prompt, SegmentKind


def media_kinds(model: ModelInfo) -> frozenset[str]:
    """The kinds of parts that a model's template asks for and prints a placeholder for."""
    template = model.chat_template or ""
    return frozenset(
        kind
        for kind, placeholder in model.placeholders.items()
        if placeholder in template and _type_of(kind, template) is not None
    )


def item(part: MediaPart, template: str) -> dict[str, Any]:
    """A part as the template asks for it, without the part itself."""
    return {"type": _type_of(part.kind, template)}


def _type_of(kind: str, template: str) -> str | None:
    """What the template calls such parts: most say ``image``, some only ``image_url``."""
    names = (kind, f"{kind}_url")
    return next((name for name in names if re.search(rf"['\"]{name}['\"]", template)), None)


def parts_of(messages: Iterable[Message]) -> list[MediaPart]:
    """All parts that are not text, in order."""
    return [
        part
        for message in messages
        if message.content is not None and not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, MediaPart)
    ]


def check_parts(parts: Iterable[MediaPart], model: ModelInfo) -> None:
    """Refuse parts for which the model's template has no place.

    Raises:
        RequestError: It names the first.
    """
    known = media_kinds(model)
    for part in parts:
        if part.kind not in known:
            raise RequestError(
                f"the chat template of model {model.name!r} has no place for content of kind "
                f"{part.kind}",
                param=part.param or "messages",
            )


def place(prompt: Prompt, parts: Iterable[MediaPart], placeholders: Mapping[str, str]) -> Prompt:
    """The prompt with each part in place of the text that stands for it.

    Args:
        prompt: The prompt as the template printed it; content stays as it is.
        parts: What goes into it, of each kind in the order of its placeholders.
        placeholders: The texts that stand for parts, by kind.

    Raises:
        RequestError: The template did not print one placeholder for each part.
    """
    waiting: dict[str, deque[MediaPart]] = {}
    for part in parts:
        waiting.setdefault(part.kind, deque()).append(part)
    kinds = {placeholders[kind]: kind for kind in waiting}
    splitter = re.compile(
        "(" + "|".join(map(re.escape, sorted(kinds, key=len, reverse=True))) + ")"
    )
    out = PromptBuilder()
    for segment in prompt.segments:
        if segment.kind is not SegmentKind.SCAFFOLD:
            out.content(segment.text)
            continue
        for text in splitter.split(segment.text):
            if text not in kinds:
                out.scaffold(text)
            elif queue := waiting[kinds[text]]:
                out.media(queue.popleft())
            else:
                raise _miscounted(kinds[text])
    for kind, queue in waiting.items():
        if queue:
            raise _miscounted(kind)
    return out.build(stop=prompt.stop, starts_in_reasoning=prompt.starts_in_reasoning)


def _miscounted(kind: str) -> RequestError:
    return RequestError(
        f"the model's chat template does not print one place for each content of kind {kind}: put "
        "them into messages of the user",
        param="messages",
    )
