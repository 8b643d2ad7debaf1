"""The formats reach the core as a third party's would, and are found by what a model says."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

import jarvis_formats
from jarvis_core import ModelInfo

QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
CHATML_LOOP = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}"
    "{% endfor %}"
)


def model(**known: object) -> ModelInfo:
    return ModelInfo(
        **{"name": "m", "source": "/models/m", "engine": "fake", "context_length": 8, **known}
    )


def detected(**known: object) -> str | None:
    return jarvis_formats.jarvis_detect_chat_format(model(**known))


def test_the_distribution_names_its_plugin() -> None:
    (point,) = (p for p in entry_points(group="jarvis") if p.name == "formats")
    assert point.load() is jarvis_formats


def test_every_family_and_variant_is_registered() -> None:
    assert {f.name for f in jarvis_formats.jarvis_register_chat_formats()} == {
        "chatml",
        "chatml-qwen2.5",
        "chatml-smollm2",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama3.3",
        "mistral",
        "mistral-v0.3",
        "mistral-nemo",
        "mistral-small-3.2",
        "gemma2",
        "gemma4",
        "phi3",
        "gpt_oss",
        "zephyr",
        "vicuna",
        "alpaca",
    }


@pytest.mark.parametrize(
    "template",
    [
        CHATML_LOOP,
        "{{'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n'}}" + CHATML_LOOP,
        "{{'<|im_start|>system\\n" + QWEN + "<|im_end|>'}}{%- if tools %}<tool_call>{%- endif %}",
    ],
)
def test_chatml_is_found_by_its_template(template: str) -> None:
    assert detected(chat_template=template) == "chatml"


@pytest.mark.parametrize(
    "template",
    [
        "{{'<|im_start|>system\nSay nothing.<|im_end|>\n'}}" + CHATML_LOOP,
        "{{'<|im_start|>system\\nSay nothing.<|im_end|>\\n'}}" + CHATML_LOOP,
        "{{ bos_token }}" + CHATML_LOOP,
        "{% if enable_thinking %}<think>{% endif %}" + CHATML_LOOP,
        "{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML_LOOP,
        CHATML_LOOP.replace("m['content']", "m['content'] | trim"),
        "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{% endfor %}",
    ],
)
def test_a_template_that_prints_something_else_is_left_to_itself(template: str) -> None:
    assert detected(chat_template=template) is None


def test_llama_is_found_by_its_template_or_its_python_tag() -> None:
    marks = "tools_in_user_message <|start_header_id|> Cutting Knowledge Date: December 2023"
    tokens = ("<|start_header_id|>", "<|eot_id|>")
    assert detected(chat_template=marks) == "llama3"
    assert detected(control_tokens=(*tokens, "<|python_tag|>")) == "llama3"
    assert detected(control_tokens=tokens) is None


def test_mistral_is_found_by_its_template_or_its_name() -> None:
    nemo = """ "[AVAILABLE_TOOLS][" '"call_id": "' "[TOOL_CALLS][" "[INST]" """
    small = "[SYSTEM_PROMPT] [CALL_ID] [TOOL_CONTENT] # TOOL CALLING INSTRUCTIONS"
    assert detected(chat_template=nemo) == "mistral"
    assert detected(chat_template=small) == "mistral"
    assert detected(source="mistralai/Mistral-Nemo-Instruct-2407") == "mistral"
    assert detected(title="Mistral Small 3.2 24B Instruct 2506") == "mistral"
    assert detected(source="mistralai/Mistral-7B-Instruct-v0.3") == "mistral"
    assert detected(source="mistralai/Mistral-7B-Instruct-v0.1") is None


def test_a_model_without_template_needs_a_name_that_is_known() -> None:
    tokens = ("<|im_start|>", "<|im_end|>")
    assert detected(control_tokens=tokens, source="/m/qwen2.5-0.5b-q4.gguf") == "chatml"
    assert detected(control_tokens=tokens, title="Smollm2 135M 8k") == "chatml"
    assert detected(control_tokens=tokens) is None
