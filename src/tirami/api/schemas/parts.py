"""Text in parts, as messages of both dialects carry it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from tirami.api.schemas.base import OpenAiPart

_TEXT = ("text", "input_text", "output_text")


class TextPart(OpenAiPart):
    type: Literal["text", "input_text", "output_text"]
    text: str


def _only_text(value: Any) -> Any:
    for part in value if isinstance(value, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in _TEXT:
            raise ValueError(f"parts of type {kind[:32]!r} are not supported: this model reads text")
    return value


Content = Annotated[str | list[TextPart] | None, BeforeValidator(_only_text)]


def text_of(content: str | list[TextPart] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""
