"""Images in prompts: vLLM's processor of the model puts their tokens where their places are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from attrs import evolve

from jarvis_core import MediaPart, Prompt, RequestError, Segment, SegmentKind
from jarvis_vllm.pictures import Picture, read_pictures

_log = logging.getLogger(__name__)

KIND = "image"
_AT_ONCE = 2
"""Requests whose images are held as pixels at the same time; others wait."""


def image_processor(
    llm: Any, controls: Mapping[str, int], *, max_pixels: int
) -> ImageProcessor | None:
    """What puts images into the prompts of a loaded model; None where there is no place for them.

    Args:
        llm: vLLM's ``AsyncLLM``.
        controls: Ids of control tokens by their text.
        max_pixels: Pixels of the images of a prompt at most.
    """
    from jarvis_vllm import backend

    limit = backend.image_limit(llm)
    if limit == 0:
        return None
    placeholder = backend.image_placeholder(llm)
    # Without a control token in it a user could write it.
    if placeholder is None or not any(text in placeholder for text in controls):
        _log.warning("the model takes images, and no control token says where: it gets none")
        return None
    return ImageProcessor(
        partial(backend.image_input, llm),
        placeholder=placeholder,
        controls=controls,
        limit=limit,
        max_pixels=max_pixels,
    )


class ImageProcessor:
    """Makes prompts with images what vLLM takes.

    Args:
        expand: ``image_input`` of ``jarvis_vllm.backend`` for the loaded model.
        placeholder: Text that stands for an image in the model's prompts; holds a control token.
        controls: Ids of control tokens by their text.
        limit: Images in a prompt at most.
        max_pixels: Pixels of the images of a prompt at most.

    Attributes:
        placeholder: As above.
    """

    def __init__(
        self,
        expand: Callable[..., Awaitable[Any]],
        *,
        placeholder: str,
        controls: Mapping[str, int],
        limit: int,
        max_pixels: int,
    ) -> None:
        self._expand = expand
        self.placeholder = placeholder
        self._own = {i for text, i in controls.items() if text in placeholder}
        self._others = frozenset(controls.values()) - self._own
        self._limit = limit
        self._max_pixels = max_pixels
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="images")

    def with_placeholders(self, prompt: Prompt) -> Prompt:
        """The prompt with the text that stands for each image.

        Raises:
            RequestError: It holds something that is no image.
        """
        return evolve(prompt, segments=tuple(map(self._written, prompt.segments)))

    async def process(self, ids: list[int], parts: Sequence[MediaPart], salt: str | None) -> Any:
        """vLLM's input: the token ids, with those of the images in their places, and the images.

        Args:
            ids: Token ids of the prompt with the text that stands for each image.
            parts: The images, in order.
            salt: What is computed of them is found again by requests of the same salt.

        Raises:
            RequestError: There are too many of them, or one cannot be used.
        """
        if len(parts) > self._limit:
            raise RequestError(
                f"the prompt has {len(parts)} images, and this model takes {self._limit} at most",
                param=parts[self._limit].param or "messages",
            )
        loop = asyncio.get_running_loop()
        async with self._places:
            pictures = await loop.run_in_executor(self._threads, self._read, parts, salt)
            try:
                found = await self._expand(
                    ids,
                    [picture.pixels for picture in pictures],
                    digests=[picture.digest for picture in pictures],
                    cache_salt=salt,
                )
            except (ValueError, ArithmeticError) as error:  # its message may hold anything
                sizes = ", ".join(f"{p.pixels.width} × {p.pixels.height}" for p in pictures)
                raise RequestError(
                    f"the model's image processor refuses images of these sizes: {sizes}",
                    param=parts[0].param or "messages",
                ) from error
        self._check_places(ids, found, len(parts))
        return found

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _written(self, segment: Segment) -> Segment:
        if segment.media is None:
            return segment
        if segment.media.kind != KIND:
            raise RequestError(
                f"this model takes text and images, not {segment.media.kind}",
                param=segment.media.param or "messages",
            )
        return Segment(kind=SegmentKind.SCAFFOLD, text=self.placeholder)

    def _read(self, parts: Sequence[MediaPart], salt: str | None) -> list[Picture]:
        return read_pictures(parts, max_pixels=self._max_pixels, salt=salt)

    def _check_places(self, ids: Sequence[int], found: Any, count: int) -> None:
        """Refuse what vLLM made if some text of a user was taken for the place of an image.

        Where it does not find the tokens of a place it looks for its text, in which a user's is
        like the template's, and tokenizes the prompt anew, control tokens included.
        """
        outside = list(found["prompt_token_ids"])
        for place in reversed(found["mm_placeholders"][KIND]):
            del outside[place.offset : place.offset + place.length]
        left = sum(i in self._own for i in outside)
        used = sum(i in self._own for i in ids) - left
        if used < count or [i for i in outside if i in self._others] != [
            i for i in ids if i in self._others
        ]:
            raise RequestError(
                "the conversation holds the text of a control token, and vLLM cannot tell it from "
                "the model's own: leave it out",
                param="messages",
            )
