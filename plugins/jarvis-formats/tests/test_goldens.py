"""Prompts are those of the publishers' templates to the byte; answers are parsed without loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jarvis_core import RequestError
from jarvis_core.testing import (
    chunkings,
    parse_agrees,
    parse_case,
    render_agrees,
    render_case,
)

VARIANTS = [
    ("chatml", "chatml-qwen2.5"),
    ("chatml", "chatml-smollm2"),
    ("llama3", "llama3.1"),
    ("llama3", "llama3.2"),
    ("llama3", "llama3.3"),
    ("mistral", "mistral-nemo"),
    ("mistral", "mistral-small-3.2"),
    ("gemma2", "gemma2"),
    ("gemma4", "gemma4"),
    ("phi3", "phi3"),
    ("gpt_oss", "gpt-oss"),
    ("hermes", "hermes3"),
    ("qwen3", "qwen3"),
    ("granite4", "granite4"),
    ("deepseek_r1", "deepseek-r1"),
    ("smollm3", "smollm3"),
    ("command_r", "command-r7b"),
]
Cases = Callable[[str], list[dict[str, Any]]]


def _outcome(name: str, case: dict[str, Any]) -> str | RequestError:
    try:
        return render_case(name, case)
    except RequestError as error:
        return error


@pytest.mark.parametrize(("family", "variant"), VARIANTS)
def test_a_variant_prints_what_its_publisher_prints(
    family: str, variant: str, render_cases: Cases
) -> None:
    for case in render_cases(variant):
        outcome = _outcome(variant, case)
        assert render_agrees(case, outcome), (case["name"], outcome)


@pytest.mark.parametrize(("family", "variant"), VARIANTS)
def test_a_family_finds_its_variant_by_the_models_name(
    family: str, variant: str, render_cases: Cases
) -> None:
    for case in render_cases(variant):
        outcome = _outcome(family, case)
        assert render_agrees(case, outcome), (case["name"], outcome)


@pytest.mark.parametrize("variant", [variant for _, variant in VARIANTS])
def test_a_refusal_names_the_field_at_fault(variant: str, render_cases: Cases) -> None:
    refusals = [
        outcome
        for case in render_cases(variant)
        if isinstance(outcome := _outcome(variant, case), RequestError)
    ]
    assert refusals
    assert all(r.param is not None and r.param.startswith("messages") for r in refusals)


@pytest.mark.parametrize(
    "family",
    [
        "chatml",
        "llama3",
        "mistral",
        "gemma4",
        "gpt_oss",
        "hermes",
        "qwen3",
        "granite",
        "deepseek_r1",
        "smollm3",
        "command_r",
    ],
)
def test_answers_are_parsed_alike_however_they_are_cut(family: str, parse_cases: Cases) -> None:
    for case in parse_cases(family):
        for chunks in chunkings(case["raw"]):
            result = parse_case(family, case, chunks)
            assert parse_agrees(case, result), (case["name"], chunks, result)
