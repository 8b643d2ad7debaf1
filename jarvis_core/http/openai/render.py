"""POST /v1/chat/completions/render: what a chat would send to its engine, without sending it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jarvis_core.host.calls import Rendered, RenderRequest
from jarvis_core.http.asking import asking, note_result
from jarvis_core.http.body import read_json
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.openai.parameter_table import ignored_header
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.openai.request import ChatCall, chat_request, read_call
from jarvis_core.http.responses import Response, json
from jarvis_core.models.sampling import CHOOSING
from jarvis_core.structs import ChatRequest, ModelInfo


async def create(front: Front, exchange: Exchange) -> Response:
    """Show the prompt of a chat and what would become of its parameters; nothing is generated."""
    raw = await read_json(exchange.request, front.settings)
    call = read_call(raw, front.settings)
    async with asking(front, exchange, call.body.model) as (lease, _):
        model, chat_format = lease.info, lease.chat_format
        chat = chat_request(call, model)
        request = RenderRequest(chat=chat)
        found = await lease.call(request, Rendered, request_id=exchange.id)
    note_result(exchange, 0)
    shown = _shown(found, raw, call, model)
    shown["chat_format"] = chat_format
    shown["sampling"] = _sampling(chat, model)
    return json(shown, headers=ignored_header(call.ignored))


def _shown(
    found: Rendered, raw: Mapping[str, Any], call: ChatCall, model: ModelInfo
) -> dict[str, Any]:
    honoured, without_effect = PARAMETERS.sorted_out(raw)
    constraint = found.constraint
    return {
        "object": "chat.completion.render",
        "model": model.name,
        "engine": model.engine,
        "system_fingerprint": f"{model.engine}/{model.backend}",
        "prompt": found.text,
        "token_ids": found.tokens.ids,
        "prompt_tokens": len(found.tokens.ids),
        "context_length": model.context_length,
        "fits": len(found.tokens.ids) < model.context_length,
        "stop": found.stop,
        "starts_in_reasoning": found.starts_in_reasoning,
        "constraint": None
        if constraint is None
        else {"kind": constraint.kind, "value": constraint.value},
        "parameters": {
            "honoured": honoured,
            "without_effect": without_effect,
            "ignored": call.ignored.split(", ") if call.ignored else [],
        },
    }


def _sampling(chat: ChatRequest, model: ModelInfo) -> dict[str, Any]:
    """What counts, whoever said it."""
    asked = chat.sampling
    most = chat.default_max_tokens if asked.max_tokens is None else asked.max_tokens
    honoured = model.capabilities.parameters
    return {n: getattr(asked, n) for n in CHOOSING if n in honoured} | {"max_tokens": most}
