"""The OpenAPI 3.1 document, made from the routes and the types they check requests with."""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from akidb.api import schemas
from akidb.api.consistency import STALENESS_HEADER, TOKEN_HEADER
from akidb.api.route import KEY_HEADER, Route

_REF = "#/components/schemas/{name}"

_EVERYWHERE = (400, 408, 413, 415, 500, 503)
"""Problems any route with a body may answer; without a body 500 and 503 remain."""

_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "A name for the request: sent again under it within a day, it is done once and answered as before.",
}

_PATH_PARAMETERS = {
    "name": "The collection's name.",
    "id": "The point's id, percent-encoded; any id is allowed.",
    "snapshot": "The snapshot's name.",
}


def document(routes: Iterable[Route], *, version: str, codes: dict[str, str], authenticated: bool) -> dict[str, Any]:
    """The document as plain values. `codes` explains the stable words of problems."""
    routes = tuple(routes)
    types = [kind for route in routes for kind in (route.body, route.answer) if _is_schema(kind)]
    _, components = msgspec.json.schema_components([*types, schemas.Problem], ref_template=_REF)
    components["Problem"]["properties"]["code"]["description"] = "; ".join(
        f"{code}: {text}" for code, text in codes.items()
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, authenticated)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AkiDB",
            "version": version,
            "summary": "A vector database whose only durable state is an object store.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components} | ({"securitySchemes": _SECURITY} if authenticated else {}),
    }


_SECURITY = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def _operation(route: Route, authenticated: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": _PATH_PARAMETERS[name],
            }
            for name in re.findall(r"\{(\w+)\}", route.path)
        ]
        + [{"name": p.name, "in": "query", "schema": p.schema, "description": p.help} for p in route.parameters]
        + ([_KEY] if route.once else []),
        "responses": _responses(route, authenticated),
    }
    if route.body is not None:
        content = {"application/json": {"schema": _ref(route.body)}}
        operation["requestBody"] = {"required": route.body_required, "content": content}
    if authenticated and not route.public:
        operation["security"] = [{"key": []}, {"bearer": []}]
    return operation


def operation_id(route: Route) -> str:
    """A name for generated clients, unique by method and path."""
    words = re.sub(r"[^a-z0-9-]+", "_", f"{route.method} {route.path}".lower())
    return words.strip("_")


def _responses(route: Route, authenticated: bool) -> dict[str, Any]:
    success: dict[str, Any] = {"description": http.HTTPStatus(route.status).phrase, "headers": _headers(route)}
    if isinstance(route.answer, str):
        success["content"] = {route.answer: {"schema": {"type": "string"}}}
    elif route.answer is not None:
        schema = _ref(route.answer) if _is_schema(route.answer) else {"type": "object"}
        success["content"] = {"application/json": {"schema": schema}}
    always = _EVERYWHERE if route.body is not None else (500, 503)
    statuses = {*always, *route.problems} | ({401} if authenticated and not route.public else set())
    problem = {"application/problem+json": {"schema": _ref(schemas.Problem)}}
    refused = {
        str(status): {"description": http.HTTPStatus(status).phrase, "content": problem} for status in sorted(statuses)
    }
    if route.path == "/health":  # an unhealthy answer has the same shape as a healthy one
        refused["503"] = {"description": "Unhealthy", "content": success["content"]}
    return {str(route.status): success} | refused


def _headers(route: Route) -> dict[str, Any]:
    headers = {"X-Request-ID": {"schema": {"type": "string"}, "description": "The request's id, as sent or made up."}}
    if "{name}" in route.path and route.status != 204:
        text = 'Pass it as {"session": token} to see at least what this answer saw.'
        headers[TOKEN_HEADER] = {"schema": {"type": "string"}, "description": text}
        text = "Of a read that may see an older state: how old at most that is."
        headers[STALENESS_HEADER] = {"schema": {"type": "integer"}, "description": text}
    return headers


def _is_schema(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _ref(kind: Any) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
