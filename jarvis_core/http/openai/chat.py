"""POST /v1/chat/completions: streamed and whole answers from the same deltas."""

from __future__ import annotations

from jarvis_core.http import generation
from jarvis_core.http.body import read_json
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.generation import Asked
from jarvis_core.http.openai.answers import ChatWriter, Head
from jarvis_core.http.openai.parameter_table import ignored_header
from jarvis_core.http.openai.request import chat_request, read_call
from jarvis_core.http.responses import Response
from jarvis_core.structs import ModelInfo


async def create(front: Front, exchange: Exchange) -> Response | None:
    """Answer a chat."""
    call = read_call(await read_json(exchange.request, front.settings), front.settings)

    def ask(model: ModelInfo) -> Asked:
        request = chat_request(call, model)
        return Asked(
            request=request,
            writer=ChatWriter(
                Head.of(model, prefix="chatcmpl"),
                n=request.n,
                logprobs=request.logprobs is not None,
                include_usage=call.body.include_usage,
            ),
            headers=ignored_header(call.ignored),
        )

    return await generation.answer(
        front, exchange, model=call.body.model, streamed=bool(call.body.stream), ask=ask
    )
