"""Errors about a chat, in the words of a route whose requests become one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from jarvis_core.errors import RequestError

Rule = tuple[re.Pattern[str], str]
"""A chat's parameter, and what it is called here."""


@contextmanager
def own_names(rules: Iterable[Rule]) -> Iterator[None]:
    """Name this route's parameters in errors: what reads and renders chats knows theirs."""
    try:
        yield
    except RequestError as error:
        for chats, own in rules:
            error.message = chats.sub(own, error.message)
            error.param = error.param and chats.sub(own, error.param)
        raise
