"""/v1/responses: create, retrieve, delete, list what was answered, cancel."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

from attrs import field, frozen

from jarvis_core.errors import ContextLengthExceeded, RequestError, UnsupportedParameter
from jarvis_core.host.calls import Rendered, RenderRequest
from jarvis_core.http import generation, sse
from jarvis_core.http.asking import asking, note_result
from jarvis_core.http.body import read_json
from jarvis_core.http.exchange import Exchange
from jarvis_core.http.front import Front
from jarvis_core.http.generation import Asked
from jarvis_core.http.openai.parameter_table import ignored_header
from jarvis_core.http.openai.responses.answer import EventWriter, ResponseHead, ResponseWriter
from jarvis_core.http.openai.responses.conversation import (
    Conversation,
    NoSuchResponse,
    all_items,
    gather,
    turns_to_drop,
)
from jarvis_core.http.openai.responses.echo import echo
from jarvis_core.http.openai.responses.items import Item
from jarvis_core.http.openai.responses.replay import ENDINGS, replay
from jarvis_core.http.openai.responses.request import ResponseCall, chat_request, read_call
from jarvis_core.http.openai.responses.store import Broken, StoredResponse
from jarvis_core.http.openai.responses.wire import ResponseBody
from jarvis_core.http.own_names import Rule, own_names
from jarvis_core.http.responses import Response, json
from jarvis_core.models.lease import Lease
from jarvis_core.structs import ModelInfo

TRUNCATED_HEADER = "x-jarvis-truncated-items"

PAGE = 20
"""Items of a page where the client does not say."""

MAX_PAGE = 100

_NAMES: tuple[tuple[str, Rule], ...] = (
    ("messages", (re.compile(r"\bmessages\[\d+\][\w.\[\]]*|\Amessages\Z"), "input")),
    ("reasoning_effort", (re.compile(r"\breasoning_effort\b"), "reasoning.effort")),
    ("response_format", (re.compile(r"\bresponse_format\b"), "text.format")),
    ("", (re.compile(r"\b(tools\[\d+\])\.function\b"), r"\1")),
)
"""What a chat's parameters are called here, and under which name a request may have sent them."""


async def create(front: Front, exchange: Exchange) -> Response | None:
    """Answer items with items, and keep both."""
    creation = await _Creation.read(front, exchange)
    with own_names(_names(creation.call.body)):
        return await creation.answer()


async def count(front: Front, exchange: Exchange) -> Response:
    """Count the tokens that a response would answer; nothing is generated or kept."""
    creation = await _Creation.read(front, exchange)
    with own_names(_names(creation.call.body)):
        tokens = await creation.count()
    note_result(exchange, tokens)
    return json(
        {"object": "response.input_tokens", "input_tokens": tokens},
        headers=ignored_header(creation.call.ignored),
    )


def _names(body: ResponseBody) -> list[Rule]:
    """What a chat's parameters are called here, but for those that the client itself has sent."""
    return [rule for name, rule in _NAMES if getattr(body, name, None) is None]


@frozen(kw_only=True)
class _Creation:
    """One request for a response.

    Attributes:
        front: The front door.
        exchange: The request.
        call: What it asks for.
        conversation: What is to be answered.
        hex: What identifiers are made of.
    """

    front: Front
    exchange: Exchange
    call: ResponseCall
    conversation: Conversation
    hex: str
    _writers: list[ResponseWriter] = field(factory=list, init=False)

    @classmethod
    async def read(cls, front: Front, exchange: Exchange) -> _Creation:
        """What a client sent, with what it goes on from."""
        settings = front.settings
        call = read_call(await read_json(exchange.request, settings), settings)
        made_of = uuid.uuid4().hex
        conversation = await gather(
            front.responses, call.body, _tenant(exchange), made_of, settings
        )
        return cls(
            front=front, exchange=exchange, call=call, conversation=conversation, hex=made_of
        )

    async def count(self) -> int:
        """Tokens of the prompt, with nothing left out."""
        async with asking(self.front, self.exchange, self.call.body.model) as (lease, _):
            return await self._tokens(lease, 0)

    async def answer(self) -> Response | None:
        """The response; None once it was streamed."""
        body = self.call.body
        dropped = await self._turns_to_drop() if body.truncation == "auto" else 0
        try:
            return await generation.answer(
                self.front,
                self.exchange,
                model=body.model,
                streamed=bool(body.stream),
                ask=lambda model: self._ask(model, dropped),
            )
        except asyncio.CancelledError:
            for writer in self._writers:
                writer.abandon()
            raise

    def _ask(self, model: ModelInfo, dropped: int) -> Asked:
        call, everything = self.call, self.conversation.without_oldest(0)
        items = self.conversation.without_oldest(dropped)
        truncated = len(everything) - len(items)
        request = chat_request(call, items, model)
        said, headers = echo(call, model, request.sampling), ignored_header(call.ignored)
        if truncated:
            said["truncated_items"] = truncated
            headers[TRUNCATED_HEADER] = str(truncated)
        writer = ResponseWriter(
            ResponseHead(echo=said, hex=self.hex),
            self.exchange,
            logprobs=call.wants_logprobs,
            tells_reasoning=call.tells_reasoning,
            namespaces=call.namespaces,
            keep=self._keep,
        )
        self._writers.append(writer)
        return Asked(
            request=request,
            writer=writer,
            headers=headers,
            fold=writer.fold,
            kept=(lambda end: self._kept(end, writer)) if call.keeps else None,
        )

    async def _kept(self, end: bytes, writer: ResponseWriter) -> bytes:
        """The end of an answer, which says whether it is stored."""
        return end if await self.front.responses.keeps(writer.id) else writer.unkept()

    def _keep(self, body: dict[str, Any]) -> bool:
        return self.call.keeps and self.front.responses.put(
            StoredResponse(
                id=body["id"],
                tenant=_tenant(self.exchange),
                previous=self.call.body.previous_response_id,
                input=[placed.item for placed in self.conversation.own],
                body=body,
            )
        )

    async def _turns_to_drop(self) -> int:
        """How many of the oldest turns do not fit."""
        body = self.call.body
        async with asking(self.front, self.exchange, body.model) as (lease, _):
            context_length = lease.info.context_length
            # Where the client does not say how long the answer may be, an eighth is for it.
            wanted = body.max_output_tokens or context_length // 8 or 1

            async def count(dropped: int) -> int:
                try:
                    return await self._tokens(lease, dropped)
                except ContextLengthExceeded:  # engines do not count what is far too long
                    return context_length + 1

            return await turns_to_drop(self.conversation, context_length - wanted, count)

    async def _tokens(self, lease: Lease, dropped: int) -> int:
        """Tokens of the prompt without so many of the oldest turns."""
        items = self.conversation.without_oldest(dropped)
        request = RenderRequest(chat=chat_request(self.call, items, lease.info))
        rendered = await lease.call(request, Rendered, request_id=self.exchange.id)
        return len(rendered.tokens.ids)


async def retrieve(front: Front, exchange: Exchange, response_id: str) -> Response:
    """A stored response, as JSON or with ``stream=true`` as events."""
    args = exchange.request.args
    if args.get("starting_after") is not None:
        raise UnsupportedParameter(
            "starting_after: a stored response is told in other pieces than while it was made, so "
            "its events have other numbers; leave it out",
            param="starting_after",
        )
    body = (await _find(front, exchange, response_id)).body
    if args.get("stream") != "true":
        return json(body)
    if body["status"] not in ENDINGS:
        raise RequestError(
            f"stream: there is no event for a response that was {body['status']}; leave it out",
            param="stream",
        )
    ending = b"" if body["status"] == "failed" else sse.DONE
    return Response(EventWriter().write(replay(body)) + ending, content_type=sse.CONTENT_TYPE)


async def delete(front: Front, exchange: Exchange, response_id: str) -> Response:
    """Forget a stored response; responses that go on from it cannot be continued then."""
    if not await front.responses.delete(response_id, _tenant(exchange)):
        raise NoSuchResponse
    return json({"id": response_id, "object": "response", "deleted": True})


async def cancel(front: Front, exchange: Exchange, response_id: str) -> Response:
    """Refused: only responses made in the background can be cancelled, and none are."""
    await _find(front, exchange, response_id)
    raise RequestError(
        "only a response that is made in the background can be cancelled, and this server makes "
        "none; close the connection to end a response that is being made",
        param="response_id",
    )


async def input_items(front: Front, exchange: Exchange, response_id: str) -> Response:
    """What a stored response answers, with what came before it, in pages."""
    limit, newest_first, after = _page(exchange)
    try:
        chain = await front.responses.chain(response_id, _tenant(exchange))
    except Broken:
        raise NoSuchResponse from None
    items: list[Item] = [item for response in chain[:-1] for item in all_items(response)]
    items += chain[-1].input
    if newest_first:
        items.reverse()
    ids = [item["id"] for item in items]
    if after is not None:
        if after not in ids:
            raise RequestError("after is not the id of one of these items", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return json(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else "",
            "last_id": page[-1]["id"] if page else "",
            "has_more": len(items) > len(page),
        }
    )


def _page(exchange: Exchange) -> tuple[int, bool, str | None]:
    """How many items, whether the newest are first, and after which one."""
    args = exchange.request.args
    limit, order = args.get("limit", str(PAGE)), args.get("order", "desc")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_PAGE):
        raise RequestError(f"limit must be a number between 1 and {MAX_PAGE}", param="limit")
    if order not in ("asc", "desc"):
        raise RequestError("order must be asc or desc", param="order")
    return int(limit), order == "desc", args.get("after")


async def _find(front: Front, exchange: Exchange, response_id: str) -> StoredResponse:
    found = await front.responses.get(response_id, _tenant(exchange))
    if found is None:
        raise NoSuchResponse
    return found


def _tenant(exchange: Exchange) -> str:
    """Whose responses these are; everybody's where the server has no keys."""
    return exchange.caller.tenant or ""
