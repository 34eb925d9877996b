"""Tirami: distributed LLM inference where compute is money."""
