"""instructor: objects of a pydantic class, through tools and through JSON schemas."""

from __future__ import annotations

from typing import Any, Literal

import instructor
import openai
import pytest
from pydantic import BaseModel, ConfigDict

USER: Any = [{"role": "user", "content": "Ann is 31 and lives in Rome."}]
MODES = (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA)


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")  # JSON_SCHEMA is sent without `strict`

    name: Literal["Ann", "Bob"]
    age: Literal[30, 31]
    city: Literal["Rome", "Oslo"]


@pytest.mark.parametrize("mode", MODES)
def test_an_object_is_made(base_url: str, key: str, mode: instructor.Mode) -> None:
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as sdk:
        person = instructor.from_openai(sdk, mode=mode).chat.completions.create(
            model="tiny",
            messages=USER,
            response_model=Person,
            max_retries=0,
            max_tokens=120,
            temperature=0,
        )
    assert isinstance(person, Person)


@pytest.mark.parametrize("mode", MODES)
def test_an_object_grows_while_it_is_streamed(
    base_url: str, key: str, mode: instructor.Mode
) -> None:
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as sdk:
        grown = list(
            instructor.from_openai(sdk, mode=mode).chat.completions.create_partial(
                model="tiny",
                messages=USER,
                response_model=Person,
                max_retries=0,
                max_tokens=120,
                temperature=0,
            )
        )
    assert len(grown) > 1
    assert Person.model_validate(grown[-1].model_dump())
