"""What every part of kas.yaml is made of: strict sections, documented options, and the types of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationInfo, model_validator

from kas.names import check_project

DAY_S = 24 * 3600


def _resolved(path: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the folder of kas.yaml, wherever kas was started."""
    base = (info.context or {}).get("folder", Path())
    return Path(base, path)


FilePath = Annotated[Path, Strict(False), AfterValidator(_resolved)]
Seconds = Annotated[float, Field(gt=0, le=7 * DAY_S, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, Field(ge=1, le=1 << 40)]
Project = Annotated[str, AfterValidator(check_project)]


def option(default: Any, text: str, *, restart: bool = False, example: str | None = None) -> Any:
    """A field with its description. ``restart``: a reload cannot change it. ``example``: shown where the default is nothing."""
    return Field(default, description=text, json_schema_extra={"restart": restart, "example": example})


class Section(BaseModel):
    """A part of kas.yaml: immutable, and strict about types and keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_the_defaults(cls, data: Any) -> Any:
        return {} if data is None else data  # a section whose every option is commented out
