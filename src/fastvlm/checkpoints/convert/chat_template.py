"""Our templates of fixed strings, written as the Jinja text that transformers' processors run."""

from __future__ import annotations

import json
import re

from fastvlm.processing.templates import ChatTemplate, JinjaTemplate, Template

# Reads contents that are strings and contents that are lists of parts, and keeps images where they stand.
_CONTENT = """\
{%- macro show(content) -%}
{%- if content is string -%}
{{ content }}
{%- else -%}
{%- set last = namespace(kind='', text='') -%}
{%- for part in content -%}
{%- if part['type'] == 'image' -%}
{%- if last.kind == 'image' or (last.kind == 'text' and not last.text.endswith(SEPARATOR)) -%}
{{ SEPARATOR }}
{%- endif -%}
{{ IMAGE }}
{%- set last.kind = 'image' -%}
{%- elif part['type'] == 'text' and part['text'] -%}
{%- if last.kind == 'image' and not part['text'].startswith(SEPARATOR) -%}
{{ SEPARATOR }}
{%- endif -%}
{{ part['text'] }}
{%- set last.kind = 'text' -%}
{%- set last.text = part['text'] -%}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""

_TURNS = """\
{{ OPENING }}
{%- if messages[0]['role'] == 'system' -%}
{{ SYSTEM_OPENING }}{{ show(messages[0]['content']) }}{{ SYSTEM_CLOSING }}
{%- else -%}
{{ DEFAULT_SYSTEM }}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{ USER_OPENING }}{{ show(message['content']) }}{{ USER_CLOSING }}
{%- elif message['role'] == 'assistant' -%}
{{ ASSISTANT_OPENING }}{{ ANSWER_PREFIX }}{{ show(message['content']) }}{{ ANSWER_CLOSING }}{{ ANSWER_SEPARATOR }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ ASSISTANT_OPENING }}
{%- endif -%}
"""


_WORD = re.compile(r"\b[A-Z]{2,}(?:_[A-Z]+)*\b")


def jinja_source(template: ChatTemplate, *, image_token: str) -> str:
    """Write a template as Jinja text that renders the same strings; a checkpoint's own stays as it is."""
    if isinstance(template, JinjaTemplate):
        return template.source
    strings = _strings(template, image_token)
    # A JSON string is a Jinja string too, as long as it needs no escapes for characters outside ASCII.
    return _WORD.sub(lambda word: json.dumps(strings[word[0]], ensure_ascii=False), _CONTENT + _TURNS)


def _strings(template: Template, image_token: str) -> dict[str, str]:
    """The template's strings by the words that stand for them above."""
    default = template.default_system
    system = "" if default is None else f"{template.system_opening or ''}{default}{template.system_closing}"
    return {
        "DEFAULT_SYSTEM": system,
        "SYSTEM_OPENING": template.system_opening or "",
        "SYSTEM_CLOSING": template.system_closing,
        "ASSISTANT_OPENING": template.assistant_opening,
        "USER_OPENING": template.user_opening,
        "USER_CLOSING": template.user_closing,
        "ANSWER_PREFIX": template.answer_prefix,
        "ANSWER_CLOSING": template.answer_closing,
        "ANSWER_SEPARATOR": template.answer_separator,
        "OPENING": template.opening_token or "",
        "SEPARATOR": template.image_separator,
        "IMAGE": image_token,
    }
