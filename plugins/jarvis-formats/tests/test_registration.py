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
        "hermes",
        "qwen3",
        "granite4",
        "deepseek_r1",
        "smollm3",
        "smollm3-published",
        "smollm3-edited",
        "command_r",
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
    last = """ '"call_id": "' loop.last and system_message """
    nemo = """ "[AVAILABLE_TOOLS][" "[TOOL_CALLS][" "[INST]" """ + last
    older = """ "[AVAILABLE_TOOLS] [" "[TOOL_CALLS] [" "[INST] " |trim + eos_token """ + last
    small = "[SYSTEM_PROMPT] [CALL_ID] [TOOL_CONTENT] # TOOL CALLING INSTRUCTIONS"
    assert detected(chat_template=nemo) == "mistral"
    assert detected(chat_template=older) == "mistral"
    assert detected(chat_template=older.replace("loop.last", "loop.first")) is None
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


GEMMA2 = (
    "{{ bos_token }}{{ raise_exception('System role not supported') }}"
    "{{ raise_exception('Conversation roles must alternate') }}{{ '<start_of_turn>' }}"
)
PHI3 = (
    "{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}"
    "{{'<|user|>\\n' + message['content']}}{{'<|assistant|>\\n' + message['content']}}"
    "{{ eos_token }}"
)
ZEPHYR = "".join(
    "{{ '<|" + role + "|>\n' + message['content'] + eos_token }}"
    for role in ("user", "system", "assistant")
)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (GEMMA2, "gemma2"),
        (GEMMA2 + "{% if tools %}{% endif %}", None),
        (GEMMA2.replace("bos_token", "''"), None),
        (PHI3, "phi3"),
        (PHI3.replace("\\n", "\n"), "phi3"),
        (PHI3 + "{{ message['tools'] }}", None),
        (PHI3.replace("{{'<|user|>\\n'", "{{ bos_token + '<|user|>\\n'"), None),
        (ZEPHYR, "zephyr"),
        (ZEPHYR.replace("eos_token", "'<|end|>'"), None),
        (ZEPHYR.replace("message['content']", "message['content'] | trim"), None),
        ("<|start|><|channel|><|message|>", None),
    ],
)
def test_a_template_is_known_by_what_it_prints(template: str, name: str | None) -> None:
    assert detected(chat_template=template) == name


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"architecture": "gemma2", "source": "google/gemma-2-2b-it"}, "gemma2"),
        ({"architecture": "gemma2", "source": "google/gemma-2-2b"}, None),
        ({"architecture": "gemma3", "source": "google/gemma-3-4b-it"}, None),
        ({"architecture": "gemma4", "source": "/m/gemma-4-31B-it-Q4_K_M.gguf"}, "gemma4"),
        ({"architecture": "gpt-oss"}, "gpt_oss"),
        ({"architecture": "phi3", "title": "Phi 3.5 Mini Instruct"}, "phi3"),
        ({"architecture": "phi3", "title": "Phi 4 mini instruct"}, None),
        ({"source": "HuggingFaceH4/zephyr-7b-beta"}, "zephyr"),
        ({"source": "/m/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"}, "zephyr"),
        ({"source": "lmsys/vicuna-7b-v1.5"}, "vicuna"),
        ({"source": "lmsys/vicuna-7b-delta-v0"}, None),
        ({"source": "/m/alpaca-7b-q4.gguf"}, "alpaca"),
        ({"source": "/m/gpt4-x-alpaca-13b.gguf"}, None),
    ],
)
def test_a_model_without_template_is_known_by_name_and_tokens(
    known: dict[str, str], name: str | None
) -> None:
    tokens = "<start_of_turn> <end_of_turn> <|turn> <turn|> <|tool_call> <|channel> <|start|> "
    tokens += "<|channel|> <|message|> <|user|> <|assistant|> <|end|>"
    assert detected(control_tokens=tuple(tokens.split()), **known) == name
    assert detected(control_tokens=(), chat_template="{{ messages }}", **known) is None
