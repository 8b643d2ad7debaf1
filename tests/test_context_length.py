from __future__ import annotations

import pytest

from jarvis_core.context_length import completion_room
from jarvis_core.errors import ContextLengthExceeded


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "room"),
    [(10, None, 90), (99, None, 1), (10, 5, 5), (100, 0, 0)],
)
def test_a_completion_takes_what_is_wanted_or_what_is_left(prompt_tokens, max_tokens, room):
    assert completion_room(prompt_tokens, max_tokens, 100) == room


def test_a_prompt_that_leaves_nothing_is_refused_with_both_numbers():
    with pytest.raises(ContextLengthExceeded) as caught:
        completion_room(1024, None, 1024)

    assert caught.value.message == (
        "this model's maximum context length is 1,024 tokens, and the prompt has 1,024 tokens and "
        "needs room for at least one more: shorten the prompt"
    )


def test_a_completion_that_does_not_fit_is_refused_with_all_numbers():
    with pytest.raises(ContextLengthExceeded) as caught:
        completion_room(1000, 25, 1024)

    assert caught.value.message == (
        "this model's maximum context length is 1,024 tokens, and the prompt has 1,000 tokens and "
        "max_tokens is 25, together 1,025: shorten the prompt or lower max_tokens"
    )
