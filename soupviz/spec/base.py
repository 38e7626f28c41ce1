"""What the keys of kitchen.yaml have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Place = Annotated[str, Field(min_length=1)]


def added_key(default: Any, description: str, **keys: Any) -> Any:
    """A key that is left out of plain data at its default: what was kept before there was such a key is found."""
    return Field(default, description=description, exclude_if=lambda value: value == default, **keys)


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
