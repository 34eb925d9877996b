"""The OpenAI dialect over paid answers, one module a route."""

from tirami.node.http.openai import chat, completions, embeddings, original, responses

__all__ = ["chat", "completions", "embeddings", "original", "responses"]
