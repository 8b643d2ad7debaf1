"""How many tokens a prompt leaves to its completion, and the refusal when it does not fit."""

from __future__ import annotations

from jarvis_core.errors import ContextLengthExceeded


def completion_room(prompt_tokens: int, max_tokens: int | None, context_length: int) -> int:
    """Tokens that may be generated.

    Args:
        prompt_tokens: Tokens of the prompt.
        max_tokens: Tokens wanted at most; None takes what the prompt leaves.
        context_length: Tokens of prompt and completion that fit.

    Raises:
        ContextLengthExceeded: They do not fit; the message has all numbers.
    """
    if max_tokens is None:
        if prompt_tokens < context_length:
            return context_length - prompt_tokens
        wanted = f"{prompt_tokens:,} tokens and needs room for at least one more"
    else:
        if prompt_tokens + max_tokens <= context_length:
            return max_tokens
        wanted = (
            f"{prompt_tokens:,} tokens and max_tokens is {max_tokens:,}, "
            f"together {prompt_tokens + max_tokens:,}"
        )
    # It begins as OpenAI's message does, by which LiteLLM and others know this error.
    raise ContextLengthExceeded(
        f"this model's maximum context length is {context_length:,} tokens, and the prompt has "
        f"{wanted}: shorten the prompt{'' if max_tokens is None else ' or lower max_tokens'}",
        param="messages",
    )
