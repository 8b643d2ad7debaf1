"""Every path and method of the API, with what its body may hold."""

from __future__ import annotations

from jarvis_core.http import docs, health, models, openapi, rerank, tokens
from jarvis_core.http.anthropic import answers as anthropic
from jarvis_core.http.anthropic import messages
from jarvis_core.http.anthropic.parameters import COUNTED
from jarvis_core.http.anthropic.parameters import PARAMETERS as MESSAGE_PARAMETERS
from jarvis_core.http.anthropic.wire import MessagesBody, PromptBody
from jarvis_core.http.auth import Scope
from jarvis_core.http.front import Route
from jarvis_core.http.openai import chat, completions, embeddings, render
from jarvis_core.http.openai.completion_request import COMPLETION_PARAMETERS, CompletionBody
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.openai.responses import endpoints as responses
from jarvis_core.http.openai.responses.parameters import RESPONSE_PARAMETERS
from jarvis_core.http.openai.responses.wire import ResponseBody
from jarvis_core.http.openai.wire import ChatBody
from jarvis_core.http.responses import JSON

STREAMED = (JSON, "text/event-stream")

ROUTES = (
    Route(
        method="POST",
        path="/v1/chat/completions",
        endpoint=chat.create,
        body=ChatBody,
        parameters=PARAMETERS,
        task="generate",
        media=STREAMED,
    ),
    Route(
        method="POST",
        path="/v1/chat/completions/render",
        endpoint=render.create,
        body=ChatBody,
    ),
    Route(
        method="POST",
        path="/v1/completions",
        endpoint=completions.create,
        body=CompletionBody,
        parameters=COMPLETION_PARAMETERS,
        task="generate",
        media=STREAMED,
    ),
    Route(
        method="POST",
        path="/v1/embeddings",
        endpoint=embeddings.create,
        body=embeddings.EmbeddingBody,
        parameters=embeddings.EMBEDDING_PARAMETERS,
        task="embed",
    ),
    Route(
        method="POST",
        path="/v1/rerank",
        endpoint=rerank.create,
        body=rerank.RerankBody,
        parameters=rerank.RERANK_PARAMETERS,
        task="rerank",
    ),
    Route(
        method="POST",
        path="/v1/responses",
        endpoint=responses.create,
        body=ResponseBody,
        parameters=RESPONSE_PARAMETERS,
        task="generate",
        media=STREAMED,
    ),
    Route(
        method="POST",
        path="/v1/responses/input_tokens",
        endpoint=responses.count,
        body=ResponseBody,
    ),
    Route(method="GET", path="/v1/responses/<response_id>", endpoint=responses.retrieve),
    Route(method="DELETE", path="/v1/responses/<response_id>", endpoint=responses.delete),
    Route(
        method="GET",
        path="/v1/responses/<response_id>/input_items",
        endpoint=responses.input_items,
    ),
    Route(method="POST", path="/v1/responses/<response_id>/cancel", endpoint=responses.cancel),
    Route(
        method="POST",
        path="/v1/messages",
        endpoint=messages.create,
        error_body=anthropic.error_body,
        body=MessagesBody,
        parameters=MESSAGE_PARAMETERS,
        task="generate",
        media=STREAMED,
    ),
    Route(
        method="POST",
        path="/v1/messages/count_tokens",
        endpoint=messages.count_tokens,
        error_body=anthropic.error_body,
        body=PromptBody,
        parameters=COUNTED,
    ),
    Route(
        method="POST",
        path="/tokenize",
        endpoint=tokens.tokenize,
        body=tokens.TokenizeBody,
        parameters=tokens.TOKENIZE_PARAMETERS,
    ),
    Route(
        method="POST",
        path="/detokenize",
        endpoint=tokens.detokenize,
        body=tokens.DetokenizeBody,
        parameters=tokens.DETOKENIZE_PARAMETERS,
    ),
    Route(method="GET", path="/v1/models", endpoint=models.listing),
    Route(method="GET", path="/v1/models/<name:path>", endpoint=models.retrieve),
    Route(
        method="POST",
        path="/v1/models/<name:path>",
        endpoint=models.change,
        scope=Scope.ADMIN,
        parts=tuple(
            Route(
                method="POST",
                path=f"/v1/models/<name:path>/{name}",
                endpoint=action,
                scope=Scope.ADMIN,
                body=models.SleepBody if name == "sleep" else None,
                parameters=models.SLEEP_PARAMETERS if name == "sleep" else None,
            )
            for name, action in models.ACTIONS.items()
        ),
    ),
    Route(
        method="GET",
        path="/health/live",
        endpoint=health.live,
        scope=Scope.OPEN,
        while_draining=True,
    ),
    Route(
        method="GET",
        path="/health/ready",
        endpoint=health.ready,
        scope=Scope.OPEN,
        while_draining=True,
    ),
    Route(method="GET", path="/health", endpoint=health.report, while_draining=True),
    Route(
        method="GET",
        path="/metrics",
        endpoint=health.metrics,
        while_draining=True,
        media=("text/plain",),
    ),
    Route(method="GET", path="/openapi.json", endpoint=openapi.show),
    Route(method="GET", path="/docs", endpoint=docs.show, scope=Scope.OPEN, media=("text/html",)),
)
