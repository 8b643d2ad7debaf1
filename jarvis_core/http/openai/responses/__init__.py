"""OpenAI's Responses and the Open Responses standard: answers that are kept, in typed items."""
