"""What the HTTP interface answers beside pictures, and how OpenAPI describes its requests."""

from typing import Any

from pydantic import BaseModel, Field

from colorization.color_flags import FLAT_NAMES
from colorization.coloring import MAX_SAMPLES
from web_request import CONTENT_TYPES, FORMATS

_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
_SAID = {
    "samples": f"so many colorings, at most {MAX_SAMPLES}; of models that draw",
    "temperature": "scale of what is drawn, 0 (the mean) to 2; left out: the model's own",
    "seed": "of what is drawn; sample i of a seed is the same noise in every picture",
    "gain": "the model sees lightness times this, 0.1 to 10, or auto",
    "saturation": "colors times this, 0 (gray) to 4",
    "upsampling": "guided, bilateral or bicubic",
    "tile": "show the model large pictures by parts as well, for detail",
    "foreground": "what stays in color: all, or Pascal VOC's classes such as person,dog",
    "softness": "pixels over which color fades at the foreground's edge",
    "invert": "color the background instead",
    "segmenter": "DeepLabV3's: resnet101, resnet50 or mobilenet",
    "mask": "in place of a segmenter the base64 of a picture, white where color stays",
    "reference": "the base64 of a picture, or a list of such, whose colors are taken; of flows",
    "instances": "of pairs: auto, or a JSON list of the things in the picture (docs/instances.md)",
    "min_score": "how sure a detector of instances must be, 0 to 1",
    "min_side": "of the shorter side of an instance's box, in pixels",
}
_LONG = ("mask", "reference")  # too long for an address


class Fault(BaseModel):
    """Why there is no picture."""

    error: str = Field(examples=["saturation: found 9; a number from 0 to 4 is needed"])


class Sample(BaseModel):
    """One of several colorings of a picture."""

    type: str = Field(examples=["image/jpeg"])
    data: str = Field(description="base64 of the encoded picture")


class Samples(BaseModel):
    """Several colorings of a picture, in the order of their noise."""

    model: str = Field(examples=["colorizer-cinn version 3 (champion)"])
    pictures: list[Sample]


class ModelAnswer(BaseModel):
    """The model in use, and what may be asked of this server."""

    model: str = Field(examples=["colorizer-gan version 3 (champion)"])
    version: str = Field(description="its number in the registry; empty for one from disk")
    family: str = Field(examples=["gan"])
    draws: bool = Field(description="whether samples and temperature may be asked for")
    takes_reference: bool = Field(description="whether a reference picture may be given")
    takes_instances: bool = Field(
        description="whether it is a pair, which colors things by themselves"
    )
    lacks: list[str] = Field(
        description="options that need networks whose weights this server does not have",
        examples=[["foreground"]],
    )
    max_megabytes: float = Field(description="of a request")
    max_megapixels: float = Field(description="of a picture, times its samples")


class Health(BaseModel):
    """Whether pictures are colored."""

    status: str = Field(examples=["ready"])
    model: str
    version: str
    replicas: dict[str, int] = Field(examples=[{"RUNNING": 2}])
    waiting: int = Field(description="pictures that wait or are being colored")
    registry: str = Field(description="why the model's alias cannot be followed; mostly empty")


FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": said}
    for status, said in {
        400: "The request ended early, or its Host is none of this server's.",
        408: "The upload was too slow, or took too long in all.",
        413: "Too many bytes or pixels.",
        415: "Neither a picture nor JSON.",
        422: "No picture that can be read, or a wrong option.",
        500: "The picture could not be colored.",
        503: "Too many wait already; Retry-After says when to come again.",
        504: "Coloring took too long.",
    }.items()
}


def coloring_answers() -> dict[int | str, dict[str, Any]]:
    """Describe the answers to a request for colors."""
    pictures: dict[str, Any] = dict.fromkeys(CONTENT_TYPES.values(), _BINARY)
    headers = {
        name: {"schema": {"type": "string"}, "description": said}
        for name, said in {
            "X-Model": "what colored it",
            "X-Model-Version": "the number of that model in the registry",
        }.items()
    }
    said = "The colored picture, in the size and format of the one sent; JSON for several samples."
    return {
        200: {"description": said, "model": Samples, "content": pictures, "headers": headers},
        **FAULTS,
    }


_BINARY = {"schema": {"type": "string", "format": "binary"}}


def coloring_request() -> dict[str, Any]:
    """Describe the parameters and the body of a request for colors."""
    options = {name: _schema(name, kind) for name, kind in FLAT_NAMES.items()}
    options["format"] = {
        "type": "string",
        "enum": list(FORMATS),
        "description": "of the answer; left out: that of the picture, PNG for kinds not listed",
    }
    whole = {
        "type": "object",
        "required": ["picture"],
        "properties": {"picture": {"type": "string", "description": "base64"}, **options},
        "example": {"picture": "iVBORw0KGgo...", "saturation": 1.2},
    }
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in options.items()
            if name not in _LONG
        ],
        "requestBody": {
            "required": True,
            "content": {"image/*": _BINARY, "application/json": {"schema": whole}},
        },
    }


def _schema(name: str, kind: type) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[kind]}
    if name == "reference":
        schema = {"oneOf": [schema, {"type": "array", "items": schema}]}
    if name == "instances":
        schema = {"oneOf": [schema, {"type": "array", "items": {"type": "object"}}]}
    return {**schema, "description": _SAID[name]} if name in _SAID else schema
