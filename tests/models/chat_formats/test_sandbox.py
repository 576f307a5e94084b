"""Chat templates do what transformers lets them do, and neither for long nor much of it."""

from __future__ import annotations

import time

import pytest
from glm_support import PLAIN, THINKING
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from glmtui.models.chat_formats.sandbox import render

MESSAGES = [
    {"role": "system", "content": "be  kind"},
    {"role": "user", "content": "hi, <|user|> {{ 7 }} 你好\n"},
    {"role": "assistant", "content": "yo", "reasoning_content": "hm"},
]
COMMON = """{%- set ns = namespace(last=-1, n=0) -%}
{% macro shown(m) %}{% if m.content is string %}{{ m.content|trim }}{% else %}{% endif %}{% endmacro %}
{% for m in messages %}
  {%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif -%}
  {%- set ns.n = ns.n + 1 -%}
  <|{{ m['role'] }}|>{{ loop.first }}{{ shown(m) ~ '|' ~ loop.length }}
  {%- if 'hm' in m.content or m.reasoning_content is defined %}<think>{{ m.reasoning_content }}{% endif %}
  {%- if loop.index > 1 %}{% continue %}{% endif %}!
{% endfor %}
{{ messages|map(attribute='content')|join(', ') }}{{ messages[0]|tojson }}{{ messages|tojson(indent=2) }}
{{ 'a,b'.split(',')[-1].strip() + 'x' * 3 }}{{ messages[0].content.replace(' ', '_')|upper }}
{% generation %}{{ messages[::-1]|length }}{% endgeneration %}{{ 7 % 4 }}{{ 2 ** 5 }}
{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ none_there is defined }}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""


@pytest.mark.parametrize("template", [PLAIN, THINKING, COMMON], ids=["plain", "thinking", "common"])
@pytest.mark.parametrize("asks", [True, False])
def test_templates_write_what_they_write_in_transformers(template: str, asks: bool) -> None:
    made, _indices = render_jinja_template([MESSAGES], chat_template=template, add_generation_prompt=asks)
    (named,), _indices = render_jinja_template([MESSAGES], chat_template="{{ messages|tojson }}")
    also = {"thinking": "hm"} if '"thinking"' in named else {}  # another name, which newer ones add
    told = [*MESSAGES[:2], also | MESSAGES[2]]
    given = {"messages": told, "tools": None, "documents": None, "add_generation_prompt": asks}
    assert [render(template, given)] == made


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
        "{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in range(99) recursive %}{% if loop.depth < 9 %}{{ loop(range(99)) }}{% endif %}"
        "{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{{ 'x' * 10**10 }}",
        "{{ [0] * 10000000000 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{% set n = namespace(s=7) %}{% for i in range(99) %}{% set n.s = n.s * n.s %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set s %}{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}{{ s }}",
        "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{{ ('x' * 99999).replace('', 'y' * 99999) }}",
        "{{ ('x' * 99999)|replace('x', 'y' * 99999) }}",
        "{{ ('x' * 99999).join('y' * 99999) }}",
        "{{ 'x'.center(10**10) }}",
        "{{ 'x'|center(10**10) }}",
        "{{ 'x'.ljust(10**10) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '{:>9999999999}'.format(1) }}",
        "{{ 'x'|indent(10**10) }}",
        "{{ messages|tojson(indent=10**10) }}",
        "{{ lipsum(n=10**6) }}",
        "{{ " + "(" * 9999 + ")" * 9999 + " }}",
        "{{ '' }}" * 20_000,
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{% if",
    ],
)
def test_none_goes_on_for_long(template: str) -> None:
    """The time is the thread's own, as other programs may have the processor."""
    started = time.thread_time()
    with pytest.raises(TemplateError):
        render(template, {"messages": MESSAGES})
    assert time.thread_time() - started < 3


def test_a_long_conversation_is_no_fault() -> None:
    many = [{"role": "user", "content": ""}, {"role": "assistant", "content": "word " * 100}] * 500
    assert render(COMMON, {"messages": many, "add_generation_prompt": True}).count("<|assistant|>") == 501
