"""OpenAI's wire shapes and the endpoints that speak them."""
