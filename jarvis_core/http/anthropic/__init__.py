"""Anthropic's wire format: /v1/messages, for clients that speak it."""
