"""The conversation that a request goes on from: what is stored, what it refers to, what fits."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

from attrs import frozen

from jarvis_core.errors import NotFound, RequestError
from jarvis_core.http.openai.responses.items import Item, Placed, stored
from jarvis_core.http.openai.responses.store import Broken, ResponseStore, StoredResponse
from jarvis_core.http.openai.responses.wire import (
    ItemReferenceBody,
    MessageItemBody,
    ResponseBody,
    TextContentBody,
)
from jarvis_core.settings import ServerSettings

_MADE_HERE = re.compile(r"[a-z]{2,3}_([0-9a-f]{32})i?\d{4,}\Z")
"""Identifier of an item: it names the response that it belongs to."""

_GOES_ON = frozenset({"completed", "incomplete"})


class PreviousResponseNotFound(RequestError):
    """The response to go on from is not stored, or not stored any more."""

    code = "previous_response_not_found"


class NoSuchResponse(NotFound):
    """No stored response of that id, for this key."""

    def __init__(self) -> None:
        super().__init__(
            "there is no response of that id: it is not finished, was never stored, was deleted or "
            "has expired, or it belongs to another key",
            param="response_id",
        )


@frozen(kw_only=True)
class Conversation:
    """What a model is to answer.

    Attributes:
        before: Items of the stored responses, oldest first.
        own: Items of this request.
    """

    before: tuple[Placed, ...]
    own: tuple[Placed, ...]

    @property
    def turns(self) -> int:
        """Turns that it has: each begins with a message of the user."""
        return 1 + sum(map(_begins_turn, (*self.before, *self.own)[1:]))

    def without_oldest(self, turns: int) -> tuple[Placed, ...]:
        """The items but for those of the oldest turns; what system or developer say is kept."""
        kept, turn = [], 0
        for i, placed in enumerate((*self.before, *self.own)):
            turn += bool(i) and _begins_turn(placed)
            if turn >= turns or placed.item.get("role") in ("system", "developer"):
                kept.append(placed)
        return tuple(kept)


def _begins_turn(placed: Placed) -> bool:
    return placed.item.get("role") == "user"


async def gather(
    store: ResponseStore, body: ResponseBody, tenant: str, made_of: str, settings: ServerSettings
) -> Conversation:
    """The conversation of a request.

    Args:
        store: Where responses are.
        body: The request.
        tenant: Whose responses may be read.
        made_of: What identifiers of its items are made of.
        settings: The server's limits.

    Raises:
        PreviousResponseNotFound: What it goes on from is not there.
        RequestError: An item of it cannot be read.
    """
    before: tuple[Placed, ...] = ()
    if body.previous_response_id is not None:
        before = tuple(
            Placed(item=item, param="previous_response_id")
            for item in await _history(store, body.previous_response_id, tenant)
        )
    sent = body.input
    if isinstance(sent, str):
        text = TextContentBody(type="input_text", text=sent)
        sent = (MessageItemBody(type="message", role="user", content=(text,)),)
    referred = await _referred(
        store, [item.id for item in sent if isinstance(item, ItemReferenceBody)], tenant
    )
    own = []
    for i, item in enumerate(sent):
        param = f"input[{i}]"
        if not isinstance(item, ItemReferenceBody):
            own.append(Placed(item=stored(item, f"{made_of}i{i:04d}", param), param=param))
        elif (found := referred.get(item.id)) is not None:
            own.append(Placed(item=found, param=param))
        else:
            raise RequestError(
                f"{param}.id names no item of a stored response: send the item itself",
                param=f"{param}.id",
            )
    if (count := len(before) + len(own)) > settings.max_messages:
        raise RequestError(
            f"the conversation has {count} items; at most {settings.max_messages} are taken",
            param="previous_response_id",
        )
    _check_outputs((*before, *own))
    return Conversation(before=before, own=tuple(own))


def _check_outputs(items: Iterable[Placed]) -> None:
    """Refuse the output of a function that was not called.

    Raises:
        RequestError: It names the item.
    """
    called = set()
    for placed in items:
        item = placed.item
        if item["type"] == "function_call":
            called.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in called:
            param = placed.param
            if param != "previous_response_id":
                param = f"{param}.call_id"
            raise RequestError(
                f"{param}: no function call before that output has its call_id", param=param
            )


async def _history(store: ResponseStore, id: str, tenant: str) -> list[Item]:  # noqa: A002
    """The items of a response and of those that it goes on from."""
    param = "previous_response_id"
    try:
        chain = await store.chain(id, tenant)
    except Broken as broken:
        which = "the response" if broken.id == id else "one of the responses before it"
        raise PreviousResponseNotFound(
            f"{param}: {which} is not finished, was never stored, was deleted or has expired, or "
            "it belongs to another key; send the whole conversation as input",
            param=param,
        ) from None
    status = chain[-1].body["status"]
    if status not in _GOES_ON:
        raise RequestError(
            f"{param}: that response is {status}; go on from the one before it", param=param
        )
    return [item for response in chain for item in all_items(response)]


def all_items(response: StoredResponse) -> list[Item]:
    """What a response answers, and its answer."""
    return [*response.input, *response.body["output"]]


async def _referred(store: ResponseStore, ids: Sequence[str], tenant: str) -> dict[str, Item]:
    """Items by their ids, as far as they are stored."""
    responses = {f"resp_{found[1]}": None for id_ in ids if (found := _MADE_HERE.match(id_))}
    items: dict[str, Item] = {}
    for id_ in responses:
        if (response := await store.get(id_, tenant)) is not None:
            items |= {item["id"]: item for item in all_items(response)}
    return items


async def turns_to_drop(
    conversation: Conversation, room: int, count: Callable[[int], Awaitable[int]]
) -> int:
    """How many of the oldest turns are to be left out, so that the rest fits.

    Args:
        conversation: The conversation.
        room: Tokens that its prompt may have.
        count: Counts the tokens of the prompt without so many of the oldest turns.

    Returns:
        The least number that is enough; where none is, all turns but the last.
    """
    if await count(0) <= room:
        return 0
    least, most = 1, max(conversation.turns - 1, 0)
    while least < most:
        middle = (least + most) // 2
        if await count(middle) <= room:
            most = middle
        else:
            least = middle + 1
    return most
