"""A chat format without control tokens: a transcript, one line for each turn."""

from jarvis_core import (
    ChatRequest,
    Constraint,
    DeltaParser,
    FormatContext,
    Prompt,
    PromptBuilder,
    TextParser,
    check_template_kwargs,
    left_open,
    text_of,
)


class TranscriptFormat:
    """``user: Hello``, and an open ``assistant: `` for the answer."""

    name = "transcript"

    def render(self, request: ChatRequest, context: FormatContext) -> Prompt:
        """What the format writes is scaffold, what people wrote is content."""
        check_template_kwargs(request)
        prompt = PromptBuilder()
        for i, message in enumerate(request.messages):
            prompt.scaffold(f"{message.role}: ").content(text_of(message))
            if not left_open(request, i):
                prompt.scaffold("\n")
        if request.add_generation_prompt:
            prompt.scaffold("assistant: ")
        return prompt.build(stop=("\nuser: ",))

    def parser(self, request: ChatRequest, context: FormatContext, prompt: Prompt) -> DeltaParser:
        """All text of an answer is content: this format has no syntax for calls or reasoning."""
        return TextParser()

    def tool_grammar(self, request: ChatRequest, context: FormatContext) -> Constraint | None:
        """No syntax for calls, so none can be forced."""
        return None
