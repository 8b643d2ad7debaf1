"""What others do for the same formats: transformers renders, and vLLM's parsers read.

The templates of publishers are read from the source of llama.cpp that llama-cpp-python carries;
those that it has none of are written here, in the shape that their publishers document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import llama_server
from attrs import frozen

SOURCE = "0.3.36"
"""Version of the llama-cpp-python whose source holds the templates."""

TEMPLATES = {
    "chatml": "Qwen-Qwen2.5-7B-Instruct",
    "chatml-qwen2.5": "Qwen-Qwen2.5-7B-Instruct",
    "command_r": "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "deepseek_r1": "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "gemma2": "google-gemma-2-2b-it",
    "gemma4": "google-gemma-4-31B-it",
    "gpt_oss": "openai-gpt-oss-120b",
    "granite4": "ibm-granite-granite-4.0",
    "hermes": "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "llama3": "meta-llama-Llama-3.1-8B-Instruct",
    "llama3.1": "meta-llama-Llama-3.1-8B-Instruct",
    "llama3.2": "meta-llama-Llama-3.2-3B-Instruct",
    "llama3.3": "meta-llama-Llama-3.3-70B-Instruct",
    "mistral": "mistralai-Mistral-Nemo-Instruct-2407",
    "mistral-nemo": "mistralai-Mistral-Nemo-Instruct-2407",
    "mistral-small-3.2": "Mistral-Small-3.2-24B-Instruct-2506",
    "phi3": "microsoft-Phi-3.5-mini-instruct",
    "qwen3": "Qwen-Qwen3-0.6B",
    "smollm3": "HuggingFaceTB-SmolLM3-3B",
    "smollm3-edited": "HuggingFaceTB-SmolLM3-3B",
    "template": "Qwen-Qwen2.5-7B-Instruct",
}
"""The template of a format's publisher, by its name in llama.cpp's ``models/templates``."""

OWN_TEMPLATES = {
    "chatml-smollm2": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + "
        "'<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "vicuna": (
        "{{ messages[0]['content'] }}{% for m in messages[1:] %}{% if m['role'] == 'user' %}"
        "{{ ' USER: ' + m['content'] }}{% else %}{{ ' ASSISTANT: ' + m['content'] + eos_token }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
    ),
    "alpaca": (
        "{{ messages[0]['content'] + '\n\n' }}{% for m in messages[1:] %}"
        "{% if m['role'] == 'user' %}{{ '### Instruction:\n' + m['content'] + '\n\n' }}"
        "{% else %}{{ '### Response:\n' + m['content'] + eos_token + '\n\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
}

TOKENS = {
    "deepseek_r1": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "command_r": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "gemma": ("<bos>", "<eos>"),
    "hermes": ("<|begin_of_text|>", "<|im_end|>"),
    "phi3": ("<s>", "<|endoftext|>"),
}
"""The tokens that begin and end a text, by the beginning of a format's name."""


def tokens_of(name: str) -> tuple[str, str]:
    """The tokens that begin and end a text of a format's models."""
    return next((t for start, t in TOKENS.items() if name.startswith(start)), ("<s>", "</s>"))


def template_of(name: str) -> str | None:
    """The Jinja source of a format's publisher, or one of its shape; None where there is none."""
    if name not in TEMPLATES:
        return OWN_TEMPLATES.get(name)
    source = llama_server.llama_cpp_source(SOURCE)
    folder = source / "vendor" / "llama.cpp" / "models" / "templates"
    return (folder / f"{TEMPLATES[name]}.jinja").read_text(encoding="utf-8")


def transformers_renderer(
    name: str, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]
) -> Callable[[], str] | None:
    """What renders a conversation with transformers; None without it or without a template."""
    try:
        from transformers.utils.chat_template_utils import render_jinja_template
    except ImportError:
        return None
    if (source := template_of(name)) is None:
        return None
    bos, eos = tokens_of(name)

    def render() -> str:
        rendered = render_jinja_template(
            conversations=[list(messages)],
            tools=list(tools) or None,
            chat_template=source,
            add_generation_prompt=True,
            bos_token=bos,
            eos_token=eos,
        )
        return str((rendered[0] if isinstance(rendered, tuple) else rendered)[0])

    return render


# -- vLLM --------------------------------------------------------------------------------------


@frozen(kw_only=True)
class VllmParser:
    """The parsers of vLLM for a format.

    Attributes:
        tools: Name of its tool parser.
        reasoning: Name of its reasoning parser, where answers of the format begin with reasoning.
    """

    tools: str
    reasoning: str | None = None


PARSERS = {
    "chatml": VllmParser(tools="hermes"),
    "command_r": VllmParser(tools="cohere_command3", reasoning="cohere_command3"),
    "deepseek_r1": VllmParser(tools="deepseek_v3", reasoning="deepseek_r1"),
    "gemma4": VllmParser(tools="gemma4", reasoning="gemma4"),
    "gpt_oss": VllmParser(tools="openai", reasoning="openai_gptoss"),
    "granite4": VllmParser(tools="granite4"),
    "hermes": VllmParser(tools="hermes"),
    "llama3": VllmParser(tools="llama3_json"),
    "mistral": VllmParser(tools="mistral"),
    "qwen3": VllmParser(tools="hermes", reasoning="qwen3"),
    "smollm3": VllmParser(tools="hermes", reasoning="qwen3"),
    "template": VllmParser(tools="hermes"),
}
"""By the beginning of a format's name."""


class Vocabulary:
    """As much of a tokenizer as vLLM's parsers ask for: an id for each marker, one for all text."""

    TEXT = 1

    def __init__(self, markers: Iterable[str]) -> None:
        """Know these markers."""
        self._ids = {marker: i for i, marker in enumerate(markers, self.TEXT + 1)}
        self.vocab = self._ids
        self.all_special_tokens = list(self._ids)
        self.all_special_ids = list(self._ids.values())

    def get_vocab(self) -> dict[str, int]:
        return self._ids

    def id_of(self, text: str) -> int:
        return self._ids.get(text, self.TEXT)

    def encode(self, text: str, **_: Any) -> list[int]:
        return [self.id_of(text)]

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        names = {number: text for text, number in self._ids.items()}
        return "".join(names.get(number, "") for number in ids)

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return self._ids.get(token)


def vllm_stream(
    name: str, markers: Sequence[str], tool: dict[str, Any]
) -> Callable[[Sequence[str]], str] | None:
    """What reads deltas with vLLM and gives the calls that it found; None where there is none."""
    found = next((p for start, p in PARSERS.items() if name.startswith(start)), None)
    if found is None:
        return None
    try:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.reasoning import ReasoningParserManager
        from vllm.tool_parsers import ToolParserManager
    except ImportError:
        return None
    vocabulary = Vocabulary(markers)
    request = ChatCompletionRequest(
        model="m", messages=[{"role": "user", "content": "Hi"}], tools=[tool]
    )
    tools = ToolParserManager.get_tool_parser(found.tools)
    thinks = found.reasoning and ReasoningParserManager.get_reasoning_parser(found.reasoning)

    def stream(deltas: Sequence[str]) -> str:
        parser = tools(vocabulary, request.tools)
        reasoning = thinks(vocabulary) if thinks else None
        before, ids, called = "", [], []
        for delta in deltas:
            new = [vocabulary.id_of(delta)]
            after, all_ids = before + delta, ids + new
            if reasoning is not None:
                made = reasoning.extract_reasoning_streaming(
                    before, after, delta, ids, all_ids, new
                )
                if reasoning.is_reasoning_end(all_ids):
                    reasoning, after, all_ids = None, "", []
            else:
                made = parser.extract_tool_calls_streaming(
                    before, after, delta, ids, all_ids, new, request
                )
                for call in (made.tool_calls or ()) if made else ():
                    called.append((call.function.name or "") + (call.function.arguments or ""))
            before, ids = after, all_ids
        return "".join(called)

    return stream
