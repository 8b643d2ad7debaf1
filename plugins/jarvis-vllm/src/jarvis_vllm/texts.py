"""What a model's texts are made of: its vocabulary, its tokenizer, its chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from jarvis_core import ModelSourceError
from jarvis_vllm.failure import one_line
from jarvis_vllm.source import Source
from jarvis_vllm.tokenizer import Tokenizer
from jarvis_vllm.vocabulary import Vocabulary, read_vocabulary


@frozen(kw_only=True)
class Texts:
    """What a model's texts are made of.

    Attributes:
        vocabulary: Its tokens.
        tokenizer: Makes tokens of texts, and texts of tokens.
        chat_template: Its Jinja template, if it has one.
    """

    vocabulary: Vocabulary
    tokenizer: Tokenizer
    chat_template: str | None


def load_texts(source: Source, context_length: int) -> Texts:
    """Read a model's tokenizer files.

    Args:
        source: The model's files.
        context_length: Tokens of prompt and completion.

    Raises:
        ModelSourceError: They are missing or damaged.
    """
    from transformers import AutoTokenizer

    place: dict[str, Any] = {"pretrained_model_name_or_path": source.tokenizer}
    if source.tokenizer.endswith(".gguf"):
        path = Path(source.tokenizer)
        place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        found = AutoTokenizer.from_pretrained(**place, trust_remote_code=False, use_fast=True)
        fast = found.backend_tokenizer
    except Exception as error:  # of transformers and tokenizers, and files of any content
        raise ModelSourceError(
            f"{source.tokenizer}: its tokenizer cannot be loaded: {one_line(error)}"
        ) from error
    template = source.chat_template or found.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    vocabulary = read_vocabulary(
        fast, bos_token=found.bos_token or None, eos_token=found.eos_token or None
    )
    return Texts(
        vocabulary=vocabulary,
        tokenizer=Tokenizer(fast, vocabulary, context_length),
        chat_template=template,
    )
