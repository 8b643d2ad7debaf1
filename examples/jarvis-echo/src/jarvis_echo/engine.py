"""An engine that repeats what it was told last. A token is a character."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from jarvis_core import (
    ContextLengthExceeded,
    EngineOutput,
    EngineStats,
    GenerationRequest,
    ModelInfo,
    ModelSpec,
    Prompt,
    RequestError,
    SegmentKind,
    StopStrings,
    Usage,
)
from jarvis_echo import CAPABILITIES, EchoSettings


class EchoEngine:
    """A model without weights: it needs no more than a name."""

    def __init__(self, model: ModelSpec, settings: EchoSettings) -> None:
        self.delay = settings.delay
        self.info = ModelInfo(
            name=model.name,
            source=model.source,
            engine="echo",
            context_length=model.context_length or 4096,
            capabilities=CAPABILITIES,
            backend="jarvis-echo",
            vocab_size=0x110000,
        )

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineOutput, None]:
        """Say the newest content of the prompt again."""
        ids = await self.tokenize(request.prompt)
        prompt_tokens = len(ids)
        room = self.info.context_length - prompt_tokens
        limit = room if request.sampling.max_tokens is None else request.sampling.max_tokens
        if room < max(limit, 1):
            raise ContextLengthExceeded(
                f"{prompt_tokens} tokens of prompt and {max(limit, 1)} of completion do not fit: "
                f"the context length is {self.info.context_length}"
            )
        yield EngineOutput(prompt_tokens=prompt_tokens)  # accepted

        said = [s.text for s in request.prompt.segments if s.kind is SegmentKind.CONTENT]
        answer = said[-1] if said else await self.detokenize(ids)
        stops, stop = StopStrings(request.sampling.stop), None
        count = 0
        for character in answer[:limit]:
            await asyncio.sleep(self.delay)  # others go on; a closed generator ends here
            count += 1
            text, stop = stops.feed(character)
            yield EngineOutput(text=text, token_ids=(ord(character),))
            if stop:
                break
        yield EngineOutput(
            text=stops.finish(),
            finish_reason="stop" if stop or len(answer) <= limit else "length",
            stop_string=stop,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=count),
        )

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """The code points of the prompt."""
        if prompt.token_ids is None:
            return [ord(character) for character in prompt.text]
        await self.detokenize(prompt.token_ids)
        return list(prompt.token_ids)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """The characters behind code points."""
        try:
            return "".join(map(chr, token_ids))
        except (ValueError, OverflowError) as error:
            raise RequestError("a token id is not in the vocabulary", param="tokens") from error

    def stats(self) -> EngineStats:
        """Nothing is counted."""
        return EngineStats()

    async def aclose(self) -> None:
        """Nothing is held."""
