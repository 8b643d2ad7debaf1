"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import re

from jarvis_core.host.calls import Rendered, RenderRequest
from jarvis_core.http import generation
from jarvis_core.http.anthropic.answers import Head, MessageWriter
from jarvis_core.http.anthropic.request import read_messages, read_prompt
from jarvis_core.http.asking import asking
from jarvis_core.http.body import read_json
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.generation import Asked
from jarvis_core.http.openai.parameter_table import ignored_header
from jarvis_core.http.own_names import own_names
from jarvis_core.http.responses import Response, json
from jarvis_core.structs import ModelInfo

_NAMES = (
    (re.compile(r"\breasoning_effort\b"), "thinking"),
    (re.compile(r"\btool_choice\.function\.name\b"), "tool_choice.name"),
    (re.compile(r"\b(tools\[\d+\])\.function\.parameters\b"), r"\1.input_schema"),
    (re.compile(r"\b(tools\[\d+\])\.function\b"), r"\1"),
    (re.compile(r"\bresponse_format\.json_schema\b"), "output_config.format"),
    (re.compile(r"\bresponse_format\b"), "output_config.format"),
    (re.compile(r"\bstop\b(?=\[| has \d)"), "stop_sequences"),
)
"""What a chat's parameters are called here."""


async def create(front: Front, exchange: Exchange) -> Response | None:
    """Answer a conversation."""
    with own_names(_NAMES):
        return await _create(front, exchange)


async def count_tokens(front: Front, exchange: Exchange) -> Response:
    """Count the tokens of a prompt, as an answer to it would."""
    with own_names(_NAMES):
        return await _count(front, exchange)


async def _create(front: Front, exchange: Exchange) -> Response | None:
    call = read_messages(await read_json(exchange.request, front.settings), front.settings)
    chat = call.chat.body
    stops = (chat.stop,) if isinstance(chat.stop, str) else chat.stop or ()

    def ask(model: ModelInfo) -> Asked:
        return Asked(
            request=call.request(model),
            writer=MessageWriter(
                Head(model=model.name, stop_sequences=stops),
                prompt_tokens=lambda: exchange.prompt_tokens,
            ),
            headers=ignored_header(call.ignored),
        )

    return await generation.answer(
        front, exchange, model=chat.model, streamed=bool(chat.stream), ask=ask
    )


async def _count(front: Front, exchange: Exchange) -> Response:
    call = read_prompt(await read_json(exchange.request, front.settings), front.settings)
    async with asking(front, exchange, call.chat.body.model) as (lease, _):
        request = RenderRequest(chat=call.request(lease.info))
        rendered = await lease.call(request, Rendered, request_id=exchange.id)
    return json({"input_tokens": len(rendered.tokens.ids)}, headers=ignored_header(call.ignored))
