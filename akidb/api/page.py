"""The readable form of the OpenAPI document: one HTML page without scripts, fonts or anything fetched."""

from __future__ import annotations

import html
import json
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; }
summary { cursor: pointer; padding: .35rem 0; }
summary b { display: inline-block; min-width: 4.5rem; font-family: monospace; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; background: #8881; padding: .75rem; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8883; }
"""


def render(document: dict[str, Any], codes: dict[str, str]) -> str:
    """The page. `codes` are the words of problems, whose `type` links here."""
    operations = [
        (operation["tags"][0], method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = [_intro(document)]
    for tag in dict.fromkeys(tag for tag, *_ in operations):
        parts.append(f"<h2>{_text(tag)}</h2>")
        parts += [_operation(method, path, operation) for t, method, path, operation in operations if t == tag]
    parts.append("<h2>Types</h2>")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    rows = "".join(
        f'<tr id="{_text(code)}"><td><code>{_text(code)}</code><td>{_text(text)}' for code, text in codes.items()
    )
    parts.append(f"<h2>Problem codes</h2><table><tr><th>code<th>meaning{rows}</table>")
    title = f"AkiDB {_text(document['info']['version'])}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>"
    )


def _intro(document: dict[str, Any]) -> str:
    info = document["info"]
    return (
        f"<h1>AkiDB {_text(info['version'])}</h1><p>{_text(info['summary'])} JSON in and out; refusals are "
        "<code>application/problem+json</code> (RFC 9457) with a stable <code>code</code>. "
        'Machine-readable: <a href="/openapi.json">/openapi.json</a>.</p>'
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<details><summary><b>{method}</b> <code>{_text(path)}</code> {_text(operation['summary'])}</summary>"]
    if operation["parameters"]:
        rows = "".join(
            f"<tr><td><code>{_text(p['name'])}</code><td>{p['in']}<td>{_text(p['description'])}"
            for p in operation["parameters"]
        )
        parts.append(f"<table><tr><th>parameter<th>in<th>meaning{rows}</table>")
    if "requestBody" in operation:
        parts.append(f"<p>Body: {_content(operation['requestBody']['content'])}</p>")
    rows = "".join(
        f"<tr><td>{status}<td>{_text(answer['description'])}<td>{_content(answer.get('content', {}))}"
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<table><tr><th>status<th>meaning<th>body{rows}</table></details>")
    return "".join(parts)


def _content(content: dict[str, Any]) -> str:
    shown = []
    for media, body in content.items():
        name = body["schema"].get("$ref", "").rpartition("/")[2]
        link = f'<a href="#{_text(name)}">{_text(name)}</a>' if name else _text(body["schema"].get("type", ""))
        shown.append(f"{link} <code>{_text(media)}</code>")
    return ", ".join(shown)


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = _text(json.dumps(schema, indent=2, ensure_ascii=False))
    return f'<details id="{_text(name)}"><summary><b>{_text(name)}</b></summary><pre>{text}</pre></details>'


def _text(value: object) -> str:
    return html.escape(str(value))
