"""What clients ask answers to look like: a schema and two tools whose arguments are bounded."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Weather(BaseModel):
    """The weather at sea."""

    model_config = ConfigDict(extra="forbid")
    sky: Literal["clear", "cloudy"]
    wind: Literal["calm", "breeze", "storm"]
    warm: bool


def tool(name: str, **choices: list[str]) -> dict[str, Any]:
    properties = {key: {"type": "string", "enum": values} for key, values in choices.items()}
    parameters = {"type": "object", "properties": properties, "required": list(choices), "additionalProperties": False}
    described = {"name": name, "description": f"Look up the {name}.", "parameters": parameters}
    return {"type": "function", "function": described}


CITIES = ["Oslo", "Rome", "Lima"]
WEATHER, TIDE = tool("weather", city=CITIES), tool("tide", city=CITIES, day=["today", "tomorrow"])
