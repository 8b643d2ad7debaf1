"""One text or several, as strings or token ids: what completions and embeddings begin with."""

from __future__ import annotations

from typing import Annotated, Any

from jarvis_core.errors import RequestError
from jarvis_core.http.converter import Length
from jarvis_core.http.openai.sampling import check_token
from jarvis_core.http.openai.wire import TokenId
from jarvis_core.structs import ModelInfo, TextOrTokens

MOST = 1 << 20

TokenIds = Annotated[tuple[TokenId, ...], Length(1, MOST)]
TextsBody = (
    str
    | Annotated[tuple[str, ...], Length(1, MOST)]
    | TokenIds
    | Annotated[tuple[TokenIds, ...], Length(1, MOST)]
)


def check_number(raw: Any, limit: int, param: str) -> None:
    """Refuse more texts than the server takes, before they are looked at.

    Raises:
        RequestError: There are.
    """
    if isinstance(raw, list) and len(raw) > limit and not isinstance(raw[0], int):
        raise RequestError(f"{param} has {len(raw)} items; at most {limit} are taken", param=param)


def texts(body: TextsBody) -> tuple[TextOrTokens, ...]:
    """The texts, however the client sent them."""
    if isinstance(body, str):
        return (body,)
    several: Any = body
    return (several,) if isinstance(several[0], int) else several


def check_ids(body: TextsBody, param: str, model: ModelInfo) -> None:
    """Refuse token ids that the model has not.

    Raises:
        RequestError: It names the first.
    """
    lists: Any = () if isinstance(body, str) else body
    if lists and isinstance(lists[0], int):
        _check_list(lists, param, model)
    for i, ids in enumerate(lists):
        if isinstance(ids, tuple):
            _check_list(ids, f"{param}[{i}]", model)


def _check_list(ids: tuple[int, ...], param: str, model: ModelInfo) -> None:
    if max(ids) >= model.vocab_size > 0:
        i = next(i for i, token in enumerate(ids) if token >= model.vocab_size)
        check_token(ids[i], f"{param}[{i}]", model)
