"""Reads requests, as JSON or multipart, into their types."""

import asyncio
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from lxmert.files import parse_json, shorten
from lxmert.serve.errors import RequestError
from lxmert.serve.messages import MAX_REQUESTS, ErrorResponse, ImageRequest

_JSON = "application/json"
_MULTIPART = "multipart/form-data"
_MAX_FIELDS = 8 * MAX_REQUESTS
_FIELD_BYTES = 1 << 16
_REMEDY = "correct the request"

R = TypeVar("R", bound=ImageRequest)


async def read_request(request: Request, kind: type[R]) -> R:
    """Return the body of a request about one image.

    Raises:
        RequestError: 400, 415 or 422, with everything that is wrong.
    """
    if _content_type(request) == _JSON:
        return _check(await _read_json(request), kind)
    form = await _read_form(request)
    values = {
        name: await _convert(name, form.getlist(name), kind.model_fields.get(name)) for name in form
    }
    return _check(values, kind)


async def read_batch(request: Request, kind: type[R]) -> list[R | ErrorResponse]:
    """Return the requests of a batch, or why each is wrong.

    In a form, `image` and the other fields are repeated once per request; a field that is given
    once, and lists such as `captions`, belong to all requests.

    Raises:
        RequestError: as for `read_request`, if the body as a whole is wrong.
    """
    if _content_type(request) == _JSON:
        body = await _read_json(request)
        rows = body.get("requests")
        if not isinstance(rows, list) or len(body) > 1 or not 1 <= len(rows) <= MAX_REQUESTS:
            raise RequestError(
                422,
                f"got {shorten(list(body))}; expected 'requests', a list of 1 to {MAX_REQUESTS} "
                f"objects: {_REMEDY}",
            )
    else:
        rows = await _form_rows(await _read_form(request), kind)
    return [_check_or_refuse(row, kind) for row in rows]


def body_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body, as JSON and as a form."""
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    content: dict[str, Any] = {_JSON: {"schema": reference}}
    if issubclass(kind, ImageRequest):
        schema = kind.model_json_schema()
        properties = {**schema["properties"], "image": {"type": "string", "format": "binary"}}
        required = schema.get("required", [])
        content[_MULTIPART] = {
            "schema": {"type": "object", "properties": properties, "required": required}
        }
    return {"requestBody": {"required": True, "content": content}}


def schemas(*kinds: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schemas of bodies and of what they contain, by name."""
    found: dict[str, Any] = {}
    for kind in kinds:
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[kind.__name__] = schema
    return found


def _content_type(request: Request) -> str:
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in (_JSON, _MULTIPART):
        raise RequestError(
            415, f"the content type is {shorten(declared)}; expected {_JSON} or {_MULTIPART}"
        )
    return declared


async def _read_json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        values = await asyncio.to_thread(parse_json, body, "the body", remedy=_REMEDY)
    except ValueError as error:  # also bytes that are not UTF-8
        raise RequestError(400, str(error)) from error
    if not isinstance(values, dict):
        raise RequestError(422, f"the body is {shorten(values)}; expected an object: {_REMEDY}")
    return values


async def _read_form(request: Request) -> FormData:
    try:
        return await request.form(
            max_files=MAX_REQUESTS, max_fields=_MAX_FIELDS, max_part_size=_FIELD_BYTES
        )
    except HTTPException as error:
        raise RequestError(400, f"the form cannot be read ({error.detail}): {_REMEDY}") from error
    except (ValueError, KeyError) as error:  # of the parser, for damaged headers
        raise RequestError(400, f"the form cannot be read: {_REMEDY}") from error


async def _form_rows(form: FormData, kind: type[ImageRequest]) -> list[dict[str, Any]]:
    """Return the values of each request of a batch."""
    columns: dict[str, list[Any]] = {}
    for name in form:
        field, given = kind.model_fields.get(name), form.getlist(name)
        if _is_list(field):
            columns[name] = [await _convert(name, given, field)]
        else:
            columns[name] = [await _convert(name, [value], field) for value in given]
    number = max(map(len, columns.values()), default=0)
    wrong = [name for name, values in columns.items() if len(values) not in (1, number)]
    if wrong or not 1 <= number <= MAX_REQUESTS:
        counts = {name: len(values) for name, values in columns.items()}
        raise RequestError(
            422,
            f"the fields are given {shorten(counts)} times; expected each once, or once for each "
            f"of 1 to {MAX_REQUESTS} requests: {_REMEDY}",
        )
    return [
        {name: values[min(row, len(values) - 1)] for name, values in columns.items()}
        for row in range(number)
    ]


async def _convert(name: str, given: list[Any], field: FieldInfo | None) -> Any:
    """Return the values of a form field in the type that the record declares."""
    values = [await part.read() if isinstance(part, UploadFile) else part for part in given]
    if _is_list(field):
        return values
    if len(values) > 1:
        raise RequestError(422, f"{shorten(name)} is given {len(values)} times: give it once")
    value = values[0]
    if field is not None and field.annotation is int and isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else value
    if field is not None and field.annotation is bool and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _is_list(field: FieldInfo | None) -> bool:
    return field is not None and get_origin(field.annotation) is tuple


def _check(values: dict[str, Any], kind: type[R]) -> R:
    try:
        return kind(**values)
    except ValueError as error:
        raise RequestError(422, f"{error}: {_REMEDY}") from error


def _check_or_refuse(values: object, kind: type[R]) -> R | ErrorResponse:
    try:
        if not isinstance(values, dict):
            raise RequestError(422, f"got {shorten(values)}; expected an object: {_REMEDY}")
        return _check(values, kind)
    except RequestError as error:
        return ErrorResponse(status=error.status, error=str(error))
