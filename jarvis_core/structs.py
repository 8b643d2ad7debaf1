"""Data that travels: between HTTP and host, host and engine, format and core.

Everything here is frozen, made of plain values, and imports nothing but the standard library
and attrs. No shape in this module is a wire shape of OpenAI or Anthropic: those exist in
``jarvis_core.http`` only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from attrs import field, frozen

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Scalar = str | int | float | bool | None
TextOrTokens = str | tuple[int, ...]

# -- the request ---------------------------------------------------------------------------


@frozen(kw_only=True)
class TextPart:
    """Text inside a message whose content is a list of parts."""

    text: str


@frozen(kw_only=True)
class MediaPart:
    """A part that is not text.

    Attributes:
        kind: What it is: ``image``, ``audio``, ``video`` or ``file``.
        url: A ``data:`` URL.
        param: Its place in the client's request, for errors.
    """

    kind: str
    url: str
    param: str | None = field(default=None, eq=False)


Part = TextPart | MediaPart


@frozen(kw_only=True)
class ToolCall:
    """One complete call of a tool, in a message of the assistant.

    Attributes:
        id: Identifier that the tool's result refers to.
        name: Name of the function.
        arguments: JSON text, as the client or the model wrote it.
    """

    id: str
    name: str
    arguments: str


@frozen(kw_only=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``developer``, ``user``, ``assistant`` or ``tool``.
        content: Text, parts, or None where the client sent null or nothing.
        name: Name of the speaker or of the tool.
        tool_calls: Calls that the assistant made in this turn.
        tool_call_id: For role ``tool``: the call that this answers.
        reasoning: The assistant's thinking text of this turn, not part of content.
    """

    role: str
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None


@frozen(kw_only=True)
class Tool:
    """A function that the model may call.

    Attributes:
        spec: The client's own object, keys in the client's order, because templates print it:
            ``{"type": "function", "function": {"name": …, "description": …, "parameters": …}}``.
    """

    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the function."""
        return str(self.spec["function"]["name"])

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schema of the arguments; an object without properties where none is given."""
        return self.spec["function"].get("parameters") or {"type": "object", "properties": {}}

    @property
    def strict(self) -> bool:
        """Whether the client asked for arguments that obey the schema."""
        return bool(self.spec["function"].get("strict"))


@frozen(kw_only=True)
class ToolChoice:
    """Which tools the model may or must call.

    Attributes:
        mode: ``auto``, ``none``, ``required``, or ``named`` with ``name``.
        name: The one function that must be called.
    """

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None

    @property
    def forced(self) -> bool:
        """Whether an answer without a call is ruled out."""
        return self.mode in ("required", "named")


@frozen(kw_only=True)
class Constraint:
    """What the generated text must obey, enforced while decoding.

    Attributes:
        kind: ``json_schema`` (JSON text), ``regex``, ``choice`` (JSON list of strings) or ``lark``
            (a grammar in llguidance's Lark dialect).
        value: The schema, expression, list or grammar.
    """

    kind: Literal["json_schema", "regex", "choice", "lark"]
    value: str


@frozen(kw_only=True)
class SamplingParams:
    """How tokens are chosen and when generation ends. Names and meanings are vLLM's.

    A field's default is its neutral value: it changes nothing. An engine states in
    ``Capabilities.parameters`` which fields it honours; the core refuses the others.

    Attributes:
        temperature: Scale of randomness; 0 is greedy.
        top_p: Share of probability kept (nucleus), in (0, 1].
        top_k: Tokens kept; 0 keeps all.
        min_p: Least probability relative to the likeliest token's, in [0, 1].
        typical_p: Locally typical sampling, in (0, 1].
        repetition_penalty: Factor over tokens of prompt and output; 1 is off.
        presence_penalty: Subtracted once per token already generated, in [-2, 2].
        frequency_penalty: Subtracted per occurrence already generated, in [-2, 2].
        logit_bias: Added to the logit of a token id.
        seed: Makes sampling repeatable.
        max_tokens: Tokens generated at most; None means what the context length leaves.
        min_tokens: Tokens generated before an end is allowed.
        stop: Stop strings; they end generation and are not sent.
        stop_token_ids: Token ids that end generation.
        bad_words: Strings that must not be generated.
        ignore_eos: Go on past the end-of-sequence token.
        extra: Engine-specific sampling parameters (``dry_multiplier``, ``mirostat`` …) by name.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(factory=dict)
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    ignore_eos: bool = False
    extra: Mapping[str, Scalar] = field(factory=dict)


@frozen(kw_only=True)
class Share:
    """Whom a request is for, where several share an engine.

    What is computed for somebody for whom nothing else is begins at once, before the prompts of who
    has a crowd are read on. Where there is no place for it, and the engine can do that
    (``Capabilities.gives_way``), a sequence of somebody else gives way, of who has the most, and
    goes on later as if nothing had happened. Those with a single place each take turns then, so
    that nobody waits for good.

    Attributes:
        name: Requests of the same name are for the same one; it says nothing else.
        priority: No sequence gives way to one of a larger number.
        others: Sequences for the same one that were at the engine or waited when this was sent:
            who has a crowd of them need not begin at once where nobody has more.
    """

    name: str
    priority: int = 0
    others: int = 0


@frozen(kw_only=True)
class ChatRequest:
    """A chat as the core understands it, after the wire shape was checked.

    Attributes:
        model: The configured name or alias that the client asked for.
        messages: The conversation, oldest first.
        tools: Functions that the model may call.
        tool_choice: Which of them it may or must call.
        parallel_tool_calls: Whether one answer may hold several calls.
        sampling: Sampling params.
        default_max_tokens: Tokens generated at most where ``sampling`` does not say; unlike its
            ``max_tokens`` it may be more than the context has room for.
        n: Answers wanted.
        logprobs: None is off; k sends the chosen token's logprob and those of the k likeliest.
        prompt_logprobs: The same for the prompt's tokens.
        constraint: What content must obey (``response_format``, structured outputs).
        reasoning_effort: ``none``, ``low``, ``medium`` or ``high``, for formats that know it.
        reasoning_optional: Whether a model that cannot think may answer all the same.
        template_kwargs: Allow-listed scalars for the model's template (``enable_thinking`` …), and
            ``documents``, a list of objects. A format refuses those that it does not know, see
            ``jarvis_core.check_template_kwargs``.
        add_generation_prompt: Whether the prompt opens the assistant's turn.
        continue_final_message: Whether the last message is left open and continued.
        adapter: Name of a LoRA adapter.
        priority: Smaller is sooner.
        cache_salt: Prefix reuse stays among requests of one salt.
        share: Whom it is for, where several share the engine.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    sampling: SamplingParams = SamplingParams()
    default_max_tokens: int | None = None
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None
    reasoning_effort: str | None = None
    reasoning_optional: bool = False
    template_kwargs: Mapping[str, Any] = field(factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    adapter: str | None = None
    priority: int = 0
    cache_salt: str | None = None
    share: Share | None = None


@frozen(kw_only=True)
class CompletionRequest:
    """Texts to continue as they are, without a chat format.

    Attributes:
        model: The configured name or alias that the client asked for.
        prompts: What to continue, each ``n`` times; answer ``k`` of prompt ``p`` has the index
            ``p * n + k``.
        add_special_tokens: Whether the tokenizer adds its own begin-of-sequence token to texts.
        echo: Whether each answer begins with its prompt, logprobs included.
        sampling: Sampling params; ``max_tokens`` 0 generates nothing.
        n: Answers wanted for each prompt.
        best_of: Continuations generated for each prompt, of which the ``n`` likeliest are sent.
        logprobs: None is off; k sends the chosen token's logprob and those of the k likeliest.
        constraint: What the generated text must obey.
        adapter: Name of a LoRA adapter.
        priority: Smaller is sooner.
        cache_salt: Prefix reuse stays among requests of one salt.
        share: Whom it is for, where several share the engine.
    """

    model: str
    prompts: tuple[TextOrTokens, ...]
    add_special_tokens: bool = True
    echo: bool = False
    sampling: SamplingParams = SamplingParams()
    n: int = 1
    best_of: int | None = None
    logprobs: int | None = None
    constraint: Constraint | None = None
    adapter: str | None = None
    priority: int = 0
    cache_salt: str | None = None
    share: Share | None = None


# -- what a format makes of it -------------------------------------------------------------


class SegmentKind(StrEnum):
    """Who wrote a segment, and so whether control tokens in it are tokens."""

    SCAFFOLD = "scaffold"
    CONTENT = "content"
    MEDIA = "media"


@frozen(kw_only=True)
class Segment:
    """A piece of a prompt.

    Attributes:
        kind: ``scaffold``: written by the format, control tokens are tokens. ``content``: written
            by a user, tool or file, ``<|im_start|>`` stays text. ``media``: a part that is not
            text, at this place and in place of the text that stands for it.
        text: The text; empty for media.
        media: The part, for media.
    """

    kind: SegmentKind
    text: str = ""
    media: MediaPart | None = None


@frozen(kw_only=True)
class Prompt:
    """What an engine continues.

    Attributes:
        segments: The text, in order. Engines join neighbouring text and tokenize the run as one;
            see ``jarvis_core.rendering.prompt_runs``.
        token_ids: Given instead of segments where a client sent token ids.
        add_special_tokens: Whether the tokenizer adds its own begin-of-sequence token: for text
            completions. Chat formats print theirs.
        stop: Stop strings of the format, beside the client's.
        starts_in_reasoning: Whether the prompt ends inside an open reasoning block.
    """

    segments: tuple[Segment, ...] = ()
    token_ids: tuple[int, ...] | None = None
    add_special_tokens: bool = False
    stop: tuple[str, ...] = ()
    starts_in_reasoning: bool = False

    @property
    def text(self) -> str:
        """The rendered prompt as one string; media are left out."""
        return "".join(s.text for s in self.segments)

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """The parts that are not text, in order."""
        return tuple(s.media for s in self.segments if s.media is not None)


@frozen(kw_only=True)
class FormatContext:
    """What a chat format knows beside the request.

    Attributes:
        model: The loaded model.
        now: The clock, for templates that print a date.
    """

    model: ModelInfo
    now: datetime


# -- what an engine gets and gives -----------------------------------------------------------


@frozen(kw_only=True)
class GenerationRequest:
    """One prompt to continue, ``n`` times.

    Attributes:
        id: The request's identifier, for logs.
        prompt: What to continue.
        sampling: Sampling params; ``stop`` already holds the format's stop strings too.
        n: Continuations wanted; their outputs carry ``index`` 0 to n - 1. Where there is a seed,
            continuation k is what ``seed + k`` makes of the prompt alone.
        constraint: What the text must obey.
        logprobs: None is off; k is the chosen token's logprob and those of the k likeliest.
        prompt_logprobs: The same for the prompt's tokens.
        adapter: Name of a LoRA adapter.
        priority: Smaller is sooner.
        cache_salt: Prefix reuse stays among requests of one salt.
        share: Whom it is for, where several share the engine.
    """

    id: str
    prompt: Prompt
    sampling: SamplingParams = SamplingParams()
    n: int = 1
    constraint: Constraint | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    adapter: str | None = None
    priority: int = 0
    cache_salt: str | None = None
    share: Share | None = None


@frozen(kw_only=True)
class TokenLogprob:
    """How likely a token was.

    Attributes:
        token_id: The token.
        token: Its text; bytes that are not UTF-8 are replaced.
        logprob: Natural logarithm of its probability before sampling transforms.
        data: Its exact bytes.
        top: The likeliest tokens at this place, likeliest first, each without ``top``.
    """

    token_id: int
    token: str
    logprob: float
    data: bytes
    top: tuple[TokenLogprob, ...] = ()


@frozen(kw_only=True)
class Usage:
    """Tokens counted.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens generated, over all ``n``.
        cached_tokens: Prompt tokens that were reused from the prefix cache.
        reasoning_tokens: Tokens generated whose text is reasoning, to within the marks around it.
            The core counts them; engines leave them out.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@frozen(kw_only=True)
class EngineOutput:
    """New raw text of one continuation.

    The first output of a request accepts it: it has ``prompt_tokens`` and no text, and says that
    the prompt is tokenized, fits, and that its constraint is compiled. The last output of each
    index has a ``finish_reason``; the very last of the request has the ``usage``.

    Attributes:
        index: Which continuation, 0 to n - 1.
        text: New text since the last output of this index. Special tokens are visible in it; the
            end-of-sequence token and stop strings are not.
        token_ids: The tokens behind the text.
        logprobs: One for each token, if asked for.
        finish_reason: ``stop`` or ``length``.
        stop_string: The stop string that ended it, beside the ``finish_reason`` ``stop``.
        usage: Tokens of the whole request.
        prompt_tokens: Tokens of the prompt, on the first output only.
        prompt_logprobs: One for each token of the prompt, None for the first, if asked for: on the
            first output or on the one after it, whichever index that has.
    """

    index: int = 0
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: Literal["stop", "length"] | None = None
    stop_string: str | None = None
    usage: Usage | None = None
    prompt_tokens: int | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] = ()


@frozen(kw_only=True)
class Embeddings:
    """What an ``Embedder`` makes of prompts.

    Attributes:
        vectors: One for each prompt, in order, of length 1: shape ``(prompts, dimensions)``.
        prompt_tokens: Tokens of all prompts.
    """

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int


@frozen(kw_only=True)
class Ranking:
    """What a ``Reranker`` makes of a query and documents.

    Attributes:
        scores: One for each document, in order; higher is closer.
        prompt_tokens: Tokens of all pairs of query and document.
    """

    scores: Sequence[float]
    prompt_tokens: int


@frozen(kw_only=True)
class ToolCallDelta:
    """An increment of a tool call.

    Attributes:
        index: Which call of the answer, from 0.
        id: On the first increment of a call; None lets the core make one.
        name: On the first increment of a call.
        arguments: Further text of the arguments' JSON.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@frozen(kw_only=True)
class Delta:
    """A parsed increment of an answer. A parser fills the first three; the core the rest.

    Attributes:
        content: New text of the answer.
        reasoning: New thinking text.
        tool_calls: New pieces of tool calls.
        index: Which of the ``n`` answers.
        finish_reason: On the last delta of an answer.
        stop_string: The stop string that ended it, the format's own included.
        logprobs: Those of the tokens whose text this delta carries.
        usage: On the very last delta of the request.
        prompt_logprobs: One for each token of the prompt, None for the first, if asked for: on the
            first delta of the request.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    index: int = 0
    finish_reason: FinishReason | None = None
    stop_string: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] = ()


@frozen(kw_only=True)
class Answer:
    """One whole answer, folded from its deltas.

    Attributes:
        index: Which of the ``n`` answers.
        content: Text, or None where there was none.
        reasoning: Thinking text, or None.
        tool_calls: Complete calls.
        finish_reason: Why it ended.
        stop_string: The stop string that ended it, the format's own included.
        logprobs: One for each token of the answer, if asked for.
    """

    index: int
    content: str | None
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    stop_string: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@frozen(kw_only=True)
class Completion:
    """All answers to one request.

    Attributes:
        answers: By index, ``n`` of them.
        usage: Tokens of the whole request.
        prompt_logprobs: One for each token of the prompt, None for the first, if asked for.
    """

    answers: tuple[Answer, ...]
    usage: Usage
    prompt_logprobs: tuple[TokenLogprob | None, ...] = ()


# -- models ----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Capabilities:
    """What an engine can do. What is not here is refused with 400 before the engine is called.

    Attributes:
        tasks: ``generate``, ``embed``, ``rerank``, ``sleep``, ``prefix_cache_reset``.
        parameters: Names of the request parameters honoured: fields of ``SamplingParams``, names
            inside its ``extra``, and ``n``, ``logprobs``, ``prompt_logprobs``, ``priority``,
            ``cache_salt``, ``share``; ``dimensions`` where vectors of ``embed`` may be cut to
            fewer.
        constraints: Kinds of ``Constraint`` enforced.
        media: Kinds of ``MediaPart`` understood; the core leaves out those for which the model's
            chat format has no place.
        gives_way: Whether a running sequence gives way to who has nothing, as ``Share`` says; the
            engine is sent a few more requests then than it has places.
    """

    tasks: frozenset[str] = frozenset({"generate"})
    parameters: frozenset[str] = frozenset()
    constraints: frozenset[str] = frozenset()
    media: frozenset[str] = frozenset()
    gives_way: bool = False


@frozen(kw_only=True)
class ModelSpec:
    """What an engine is asked to load.

    Attributes:
        name: The configured name.
        source: Path or hub id as the operator wrote it.
        path: Where the weights are on this machine, after any download.
        context_length: Tokens of prompt and completion wanted per request; None leaves it to
            the engine.
        adapters: Paths of LoRA adapters by the name that requests choose them by. An engine that
            cannot load them refuses with a ``ConfigError``.
    """

    name: str
    source: str
    path: str
    context_length: int | None = None
    adapters: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class ModelInfo:
    """A loaded model, as its engine describes it.

    Attributes:
        name: The configured name.
        source: Path or hub id of its weights.
        engine: Name of the engine type.
        context_length: Tokens of prompt and completion that fit in one request.
        capabilities: What this model on this engine can do.
        backend: The upstream library and its version, for ``system_fingerprint``.
        architecture: The model family's name in its metadata (``llama``, ``qwen2`` …).
        title: The model's own name in its metadata.
        chat_template: Its Jinja template, if it has one.
        bos_token: Text of the begin-of-sequence token.
        eos_token: Text of the end-of-sequence token.
        control_tokens: Texts that its tokenizer takes for control tokens.
        control_token_ids: Their ids, in the same order; empty where they are not known.
        placeholders: Text that stands for a part that is not text in the prompts of its own chat
            template, by kind: ``{"image": "<image>"}``. Holds a control token.
        vocab_size: Token ids are below this.
        adapters: Names of the LoRA adapters that a request may choose.
        memory_bytes: Bytes that the loaded model occupies, as far as the engine knows.
        max_num_seqs: Sequences that are computed at the same time; 0 where that is not known.
        sampling: Sampling params that its publisher recommends, by name and as its files have
            them: the core leaves out what cannot be.
    """

    name: str
    source: str
    engine: str
    context_length: int
    capabilities: Capabilities = Capabilities()
    backend: str = ""
    architecture: str | None = None
    title: str | None = None
    chat_template: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    control_tokens: tuple[str, ...] = ()
    control_token_ids: tuple[int, ...] = ()
    placeholders: Mapping[str, str] = field(factory=dict)
    vocab_size: int = 0
    adapters: tuple[str, ...] = ()
    memory_bytes: int | None = None
    max_num_seqs: int = 0
    sampling: Mapping[str, Scalar] = field(factory=dict)


@frozen(kw_only=True)
class EngineStats:
    """An engine's gauges and counters, since it was loaded.

    Attributes:
        running: Requests that are being decoded.
        waiting: Requests accepted but not begun.
        kv_used: Tokens held in the KV cache by running requests.
        kv_total: Tokens that the KV cache can hold.
        prompt_tokens: Prompt tokens of all requests.
        cached_tokens: Of those, tokens reused from the prefix cache.
        generation_tokens: Tokens generated.
        prefix_queries: Prompts looked up in the prefix cache.
        prefix_hits: Of those, prompts of which some prefix was found.
        metrics: The backend's own metrics as Prometheus text, their names beginning with the
            backend's; the server adds the labels ``model`` and ``engine``.
    """

    running: int = 0
    waiting: int = 0
    kv_used: int = 0
    kv_total: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generation_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    metrics: str = ""
