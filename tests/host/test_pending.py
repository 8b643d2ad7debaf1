"""What a lost host leaves behind: who is told so, and who may be to blame."""

from __future__ import annotations

import asyncio

import pytest

from jarvis_core.errors import EngineDied
from jarvis_core.host.pending import Pending
from jarvis_core.host.protocol import Frame, pack_delta
from jarvis_core.structs import CompletionRequest, Delta, Usage

pytestmark = pytest.mark.anyio

END = Delta(finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=1))


async def test_of_a_lost_host_only_requests_without_a_whole_answer_were_held() -> None:
    sent: list[Frame] = []
    pending = Pending(sent.append)
    requests = [CompletionRequest(model="m", prompts=(text,)) for text in ("whole", "half")]
    asked = [asyncio.create_task(pending.stream(request, "r")) for request in requests]
    await asyncio.sleep(0)
    whole, half = [frame[1] for frame in sent]
    pending.on_frame(["accepted", whole, 1])
    pending.on_frame(["accepted", half, 1])
    _, unfinished = await asyncio.gather(*asked)
    pending.on_frame(["deltas", [pack_delta(whole, END), pack_delta(half, Delta(content="a"))]])

    assert pending.lost(lambda: EngineDied("it ended")) == (requests[1],)
    assert await anext(unfinished) == [Delta(content="a")]
    with pytest.raises(EngineDied):
        await anext(unfinished)
