"""POST /tokenize and /detokenize, in vLLM's shapes: texts and chats as token ids, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from attrs import frozen

from jarvis_core.errors import RequestError
from jarvis_core.host.calls import (
    Detokenized,
    DetokenizeRequest,
    Rendered,
    RenderRequest,
    TokenizeRequest,
    Tokens,
)
from jarvis_core.http.asking import asking
from jarvis_core.http.body import read_json
from jarvis_core.http.converter import Length, structurer
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.openai.parameter_table import (
    ParameterTable,
    core,
    ignored_header,
)
from jarvis_core.http.openai.parameters import PARAMETERS
from jarvis_core.http.openai.request import ChatCall, chat_request, read_call
from jarvis_core.http.openai.texts import MOST, check_ids
from jarvis_core.http.openai.wire import ModelName, TokenId
from jarvis_core.http.responses import Response, json


@frozen(kw_only=True)
class TokenizeBody:
    """The body of POST /tokenize: a text, or the messages of a chat with its other parameters."""

    model: ModelName
    prompt: str | None = None
    messages: tuple[Any, ...] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


@frozen(kw_only=True)
class DetokenizeBody:
    """The body of POST /detokenize."""

    model: ModelName
    tokens: Annotated[tuple[TokenId, ...], Length(0, MOST)]


TOKENIZE_PARAMETERS = ParameterTable(
    core("model"),
    core("prompt", "a text; its control tokens are tokens"),
    core("messages", "a chat instead; every parameter of a chat may be beside it"),
    core("add_special_tokens", "of a text: whether the begin-of-sequence token comes first"),
    core("return_token_strs", "whether the text of each token is sent too"),
)
DETOKENIZE_PARAMETERS = ParameterTable(core("model"), core("tokens"))

_structure_tokenize = structurer(TokenizeBody)
_structure_detokenize = structurer(DetokenizeBody)


async def tokenize(front: Front, exchange: Exchange) -> Response:
    """Turn a text, or the prompt of a chat, into token ids."""
    raw = await read_json(exchange.request, front.settings)
    body = _structure_tokenize(raw)
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("send either prompt or messages", param="prompt")
    call = None if body.messages is None else _read_chat(body, raw, front)
    async with asking(front, exchange, body.model) as (lease, _):
        model = lease.info
        with_texts = bool(body.return_token_strs)
        if call is not None:
            chat = RenderRequest(chat=chat_request(call, model), with_texts=with_texts)
            tokens = (await lease.call(chat, Rendered, request_id=exchange.id)).tokens
        else:
            text = TokenizeRequest(
                text=body.prompt or "",
                add_special_tokens=body.add_special_tokens is not False,
                with_texts=with_texts,
            )
            tokens = await lease.call(text, Tokens, request_id=exchange.id)
    names = [name for name in raw if name not in TOKENIZE_PARAMETERS]
    return json(
        {
            "count": len(tokens.ids),
            "max_model_len": model.context_length,
            "tokens": tokens.ids,
            "token_strs": tokens.texts,
        },
        headers=ignored_header((PARAMETERS if call else TOKENIZE_PARAMETERS).ignored(names)),
    )


def _read_chat(body: TokenizeBody, raw: Mapping[str, Any], front: Front) -> ChatCall:
    if body.add_special_tokens:
        raise RequestError(
            "add_special_tokens is for a prompt: a chat's format writes its own special tokens",
            param="add_special_tokens",
        )
    return read_call(raw, front.settings)


async def detokenize(front: Front, exchange: Exchange) -> Response:
    """Turn token ids into text."""
    raw = await read_json(exchange.request, front.settings)
    body = _structure_detokenize(raw)
    async with asking(front, exchange, body.model) as (lease, _):
        if body.tokens:
            check_ids(body.tokens, "tokens", lease.info)
        request = DetokenizeRequest(ids=body.tokens)
        found = await lease.call(request, Detokenized, request_id=exchange.id)
    return json(
        {"prompt": found.text},
        headers=ignored_header(DETOKENIZE_PARAMETERS.ignored(raw)),
    )
