from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest
from attrs import frozen
from PIL import Image

from jarvis_core import MediaPart, PromptBuilder, RequestError, SegmentKind
from jarvis_vllm.images import ImageProcessor

pytestmark = pytest.mark.anyio

START, PAD, END, TURN = 900, 901, 902, 903
CONTROLS = {"<start>": START, "<pad>": PAD, "<end>": END, "<turn>": TURN}
PLACE = [START, PAD, END]


@frozen
class Range:
    """Where vLLM put an image."""

    offset: int
    length: int


class Vllm:
    """vLLM's processor: an image is two tokens, in place of ``PAD``.

    Attributes:
        digests: What it was told of the images.
        altered: Ids that it is to give instead, and places.
    """

    def __init__(self) -> None:
        self.digests: list[str] = []
        self.altered: tuple[list[int], list[Range]] | None = None
        self.error: Exception | None = None

    async def expand(
        self, ids: list[int], images: list[Any], *, digests: list[str], cache_salt: str | None
    ) -> Any:
        if self.error is not None:
            raise self.error
        self.digests += digests
        expanded: list[int] = []
        places = []
        for token_id in ids:
            if token_id == PAD:
                places.append(Range(len(expanded), 2))
                expanded += [PAD, PAD]
            else:
                expanded.append(token_id)
        assert len(images) == len(places)
        expanded, places = self.altered or (expanded, places)
        return {"prompt_token_ids": expanded, "mm_placeholders": {"image": places}}


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
def processor(vllm: Vllm) -> ImageProcessor:
    return ImageProcessor(
        vllm.expand, placeholder="<start><pad><end>", controls=CONTROLS, limit=2, max_pixels=100
    )


def image(kind: str = "image", param: str | None = "here") -> MediaPart:
    file = BytesIO()
    Image.new("RGB", (2, 3)).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return MediaPart(kind=kind, url=url, param=param)


async def test_the_place_of_an_image_is_its_text(processor: ImageProcessor) -> None:
    prompt = PromptBuilder().scaffold("a").media(image()).content("<pad>").build()
    written = processor.with_placeholders(prompt)
    assert written.text == "a<start><pad><end><pad>"
    assert [s.kind for s in written.segments] == [
        *(SegmentKind.SCAFFOLD, SegmentKind.SCAFFOLD, SegmentKind.CONTENT)
    ]
    with pytest.raises(RequestError, match="text and images, not audio") as caught:
        processor.with_placeholders(PromptBuilder().media(image("audio")).build())
    assert caught.value.param == "here"


async def test_the_tokens_of_images_are_in_their_places(
    processor: ImageProcessor, vllm: Vllm
) -> None:
    found = await processor.process([1, *PLACE, 2, *PLACE], [image(), image()], None)
    assert found["prompt_token_ids"] == [1, START, PAD, PAD, END, 2, START, PAD, PAD, END]
    await processor.process(PLACE, [image()], "salt")
    assert vllm.digests[0] == vllm.digests[1] != vllm.digests[2]


async def test_too_many_images_are_refused_with_the_first_that_is(
    processor: ImageProcessor,
) -> None:
    parts = [image(param=f"[{i}]") for i in range(4)]
    with pytest.raises(RequestError, match="has 4 images.* takes 2 at most") as caught:
        await processor.process(PLACE * 4, parts, None)
    assert caught.value.param == "[2]"


async def test_what_vllms_processor_says_is_not_told(processor: ImageProcessor, vllm: Vllm) -> None:
    vllm.error = ValueError("failed on <PIL.Image.Image at 0x7f00>")
    with pytest.raises(RequestError) as caught:
        await processor.process(PLACE, [image()], None)
    assert (
        caught.value.message == "the model's image processor refuses images of these sizes: 2 × 3"
    )
    assert caught.value.param == "here"


@pytest.mark.parametrize(
    ("ids", "expanded", "place"),
    [
        ([7, 8, *PLACE], [7, 8, PAD, PAD, *PLACE], Range(2, 2)),
        ([7, 8, *PLACE], [START, PAD, END, START, PAD, PAD, END], Range(4, 2)),
        ([7, *PLACE], [TURN, START, PAD, PAD, END], Range(2, 2)),
        ([7, TURN, *PLACE], [7, START, PAD, PAD, END], Range(2, 2)),
    ],
    ids=["elsewhere", "text became a place", "text became a turn", "a turn is lost"],
)
async def test_a_prompt_in_which_vllm_took_text_for_tokens_is_refused(
    ids: list[int], expanded: list[int], place: Range, processor: ImageProcessor, vllm: Vllm
) -> None:
    vllm.altered = expanded, [place]
    with pytest.raises(RequestError, match="holds the text of a control token"):
        await processor.process(ids, [image()], None)
