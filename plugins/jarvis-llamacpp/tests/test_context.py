"""The wrappers around llama.cpp's context, with the small real model."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from attrs import evolve

from jarvis_core import ModelSpec
from jarvis_llamacpp.batch import Batch
from jarvis_llamacpp.context import DecodeError, LlamaContext, Logits, StepInterrupted
from jarvis_llamacpp.log import LOG
from jarvis_llamacpp.memory import plan_memory
from jarvis_llamacpp.model import LlamaModel, start_backend
from jarvis_llamacpp.settings import LlamaCppSettings
from jarvis_llamacpp.source import find_weights

SETTINGS = LlamaCppSettings(n_threads=1, kv_size=256, n_batch=32, max_num_seqs=4)


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    start_backend(SETTINGS)
    model = LlamaModel(find_weights(spec()), SETTINGS)
    yield model
    model.close()


@pytest.fixture
def context(model: LlamaModel) -> Iterator[LlamaContext]:
    yield from made(model, SETTINGS)


@pytest.fixture
def apart(model: LlamaModel) -> Iterator[LlamaContext]:
    """A context whose sequences share no cells."""
    yield from made(model, evolve(SETTINGS, kv_size=1024))


def made(
    model: LlamaModel, settings: LlamaCppSettings, tokens: int = 256
) -> Iterator[LlamaContext]:
    plan = plan_memory(find_weights(spec()), tokens, settings, None)
    context = LlamaContext(model, plan, settings)
    yield context
    context.close()


def spec() -> ModelSpec:
    return ModelSpec(name="m", source="smollm2", path="smollm2")


def step(context: LlamaContext, seq: int, start: int, tokens: list[int]) -> Logits:
    """Compute tokens of one sequence; the logits after the last."""
    batch = Batch(64)
    batch.add_chunk(seq, start, np.array(tokens, np.int32), last_wanted=True)
    assert context.decode(batch)
    logits: Logits = context.logits(1)[0].copy()
    return logits


def test_sizes_are_as_asked_for(context: LlamaContext) -> None:
    assert (context.kv_size, context.n_batch, context.n_seqs) == (256, 36, 4)


def test_rows_of_logits_come_in_the_order_of_their_tokens(context: LlamaContext) -> None:
    first, second = step(context, 0, 0, [5, 6, 7]), step(context, 1, 0, [8, 9])
    context.clear()
    batch = Batch(64)
    batch.add_chunk(0, 0, np.array([5, 6, 7], np.int32), last_wanted=True)
    batch.add_chunk(1, 0, np.array([8, 9], np.int32), last_wanted=True)
    assert context.decode(batch)
    rows = context.logits(2)

    assert rows.shape == (2, 49_152)
    assert [row.argmax() for row in rows] == [first.argmax(), second.argmax()]


def test_a_saved_state_goes_on_where_it_was(context: LlamaContext) -> None:
    step(context, 1, 0, [5, 6, 7, 8])
    state = context.save(1)
    assert state is not None
    expected = step(context, 1, 4, [9])
    context.remove(1, 0)

    assert context.restore(2, state)
    assert np.array_equal(step(context, 2, 4, [9]), expected)


def test_a_copied_prefix_goes_on_when_its_source_is_gone(context: LlamaContext) -> None:
    expected = step(context, 0, 0, [5, 6, 7, 8])
    context.copy(0, 3, 3)
    context.remove(0, 0)

    assert step(context, 3, 3, [8]).argmax() == expected.argmax()


def test_without_shared_cells_a_prefix_is_copied(apart: LlamaContext) -> None:
    expected = step(apart, 0, 0, [5, 6, 7, 8])
    assert apart.copy(0, 3, 3)
    apart.remove(0, 0)

    assert not apart.unified
    assert step(apart, 3, 3, [8]).argmax() == expected.argmax()


def test_without_shared_cells_one_sequence_cannot_fill_the_others(apart: LlamaContext) -> None:
    for start in range(0, 256, 32):
        step(apart, 0, start, list(range(100, 132)))

    assert step(apart, 1, 0, [5]).shape == (49_152,)


def test_prompts_and_single_tokens_of_a_step_give_the_same_rows_in_any_layout(
    context: LlamaContext, apart: LlamaContext
) -> None:
    def rows(at: LlamaContext) -> list[int]:
        step(at, 0, 0, [20, 21, 22])
        step(at, 1, 0, [30, 31])
        batch = Batch(64)
        batch.add_chunk(3, 0, np.array([5, 6, 7], np.int32), last_wanted=True)
        batch.add_chunk(2, 0, np.array([8, 9], np.int32), last_wanted=True)
        batch.add_each([0, 1], [3, 2], [23, 32])
        assert at.decode(batch)
        return [int(row.argmax()) for row in at.logits(4)]

    assert rows(context) == rows(apart)


def test_a_step_can_be_interrupted_and_computed_again(context: LlamaContext) -> None:
    expected = step(context, 0, 0, [5, 6, 7, 8])
    context.clear()
    step(context, 0, 0, [5, 6])
    context.interrupt.set()
    with pytest.raises(StepInterrupted):
        step(context, 0, 2, [7, 8])
    context.interrupt.clear()
    context.remove(0, 2)

    assert step(context, 0, 2, [7, 8]).argmax() == expected.argmax()


def test_a_step_that_is_interrupted_is_no_error_in_the_log(
    context: LlamaContext, caplog: pytest.LogCaptureFixture
) -> None:
    LOG.install("debug")
    context.interrupt.set()
    with pytest.raises(StepInterrupted):
        step(context, 0, 0, [5, 6, 7, 8])
    of_interrupt = [(r.levelname, r.message) for r in caplog.records if r.levelno > logging.DEBUG]
    nothing_wrong = LOG.reason()
    context.interrupt.clear()
    with pytest.raises(DecodeError):
        step(context, 0, 0, [50_000])
    LOG.install(SETTINGS.log_level)

    assert of_interrupt == []
    assert nothing_wrong == "no reason given"
    assert any("ret = -1" in record.message for record in caplog.records)


def test_a_long_step_is_interrupted_from_another_thread(model: LlamaModel) -> None:
    settings = evolve(SETTINGS, kv_size=8192, n_batch=8000)
    for context in made(model, settings, tokens=8192):
        timer = threading.Timer(0.2, context.interrupt.set)
        timer.start()
        with pytest.raises(StepInterrupted):  # whole, it takes some ten seconds
            batch = Batch(8000)
            batch.add_chunk(0, 0, np.full(8000, 5, np.int32), last_wanted=True)
            context.decode(batch)
        timer.join()


def test_a_full_cache_is_told_and_changes_nothing(context: LlamaContext) -> None:
    for start in range(0, 256, 32):
        step(context, 0, start, list(range(100, 132)))
    batch = Batch(64)
    batch.add_each([1], [0], [5])

    assert not context.decode(batch)
    assert context.remove(0, 250)
    assert context.decode(batch)


def test_positions_that_do_not_follow_are_an_error_and_not_a_crash(context: LlamaContext) -> None:
    step(context, 0, 0, [5, 6])
    with pytest.raises(DecodeError, match="returned -1"):
        step(context, 0, 7, [5])


def test_a_token_outside_the_vocabulary_is_an_error_and_not_a_crash(context: LlamaContext) -> None:
    with pytest.raises(DecodeError, match="returned -1"):
        step(context, 0, 0, [50_000])


def test_more_tokens_or_rows_than_there_may_be_are_refused(context: LlamaContext) -> None:
    batch = Batch(64)
    with pytest.raises(ValueError, match="0 tokens"):
        context.decode(batch)
    batch.add_each([0] * 37, range(37), [5] * 37)
    with pytest.raises(ValueError, match="37 rows"):
        context.decode(batch)
    batch.clear()
    batch.add_chunk(0, 0, np.full(37, 5, np.int32), last_wanted=True)
    with pytest.raises(ValueError, match="37 tokens"):
        context.decode(batch)


@pytest.mark.parametrize("seq", [-1, 4, 300])
def test_sequences_that_do_not_exist_are_refused(context: LlamaContext, seq: int) -> None:
    for call in (
        lambda: context.remove(seq, 0),
        lambda: context.copy(seq, 0, 1),
        lambda: context.copy(0, seq, 1),
        lambda: context.save(seq),
        lambda: context.restore(seq, np.zeros(4, np.uint8)),
    ):
        with pytest.raises(ValueError, match=f"no sequence {seq}"):
            call()


def test_a_state_that_is_none_is_refused(context: LlamaContext) -> None:
    assert not context.restore(0, np.zeros(64, np.uint8))
    assert step(context, 0, 0, [5]).shape == (49_152,)


def test_another_thread_is_refused(context: LlamaContext) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            context.clear()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert "another thread" in str(errors[0])


def test_use_after_close_is_refused(context: LlamaContext, model: LlamaModel) -> None:
    context.close()
    context.close()
    with pytest.raises(RuntimeError, match="closed"):
        context.clear()

    extra = LlamaModel(find_weights(spec()), SETTINGS)
    extra.close()
    with pytest.raises(RuntimeError, match="closed"):
        extra.tokenize_text(b"a")
    assert model.tokenize_text(b"a")
