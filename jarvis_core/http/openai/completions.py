"""POST /v1/completions: texts continued as they are."""

from __future__ import annotations

from jarvis_core.http import generation
from jarvis_core.http.body import read_json
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.generation import Asked
from jarvis_core.http.openai.answers import Head
from jarvis_core.http.openai.completion_answers import CompletionWriter
from jarvis_core.http.openai.completion_request import completion_request, read_call
from jarvis_core.http.openai.parameter_table import ignored_header
from jarvis_core.http.responses import Response
from jarvis_core.structs import ModelInfo


async def create(front: Front, exchange: Exchange) -> Response | None:
    """Continue a text, or several."""
    call = read_call(await read_json(exchange.request, front.settings), front.settings)

    def ask(model: ModelInfo) -> Asked:
        request = completion_request(call, model)
        return Asked(
            request=request,
            writer=CompletionWriter(
                Head.of(model, prefix="cmpl"),
                answers=len(request.prompts) * request.n,
                echo=request.echo,
                logprobs=request.logprobs is not None,
                include_usage=call.body.include_usage,
            ),
            headers=ignored_header(call.ignored),
        )

    return await generation.answer(
        front, exchange, model=call.body.model, streamed=bool(call.body.stream), ask=ask
    )
