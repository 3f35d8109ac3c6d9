"""Renders chat templates with the reference implementation, for the goldens of `datasets`.

    python templates.py templates OUT.json [FOLDER]
    python templates.py masks OUT.json [TOKENIZER]

`templates`, without FOLDER: the built-in templates, a published one, and small ones that each try one thing, into
datasets/tests/data/templates.json. With FOLDER: every *.jinja file in it, to try other templates; set
FIREBRAND_TEMPLATE_GOLDENS=OUT.json to have the tests of `datasets` compare them too.
`masks`: tokens and assistant masks of the templates with `{% generation %}`, into datasets/tests/data/masks.json; with
TOKENIZER (a model folder) for another tokenizer, compared when FIREBRAND_MASK_GOLDENS=OUT.json is set.

Made with Python 3.11, transformers 5.23.0, Jinja2 3.1.6. The clock is set to 2026-11-23 00:00:00.
"""

import datetime
import json
import pathlib
import re
import sys

import transformers.utils.chat_template_utils as reference

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 23)


reference.datetime = Clock

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

FEATURES = {
    "generation": "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}[A] {% generation %}{{ m.content }}"
    "{{ eos_token }}{% endgeneration %}\n{% else %}[{{ m.role }}] {{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[A] {% endif %}",
    "generation-layout": "{%- for m in messages %}\n  {%- if m['role'] == 'assistant' %}\n"
    "    {%- generation -%}\n      {{ m['content'] | trim }}\n    {%- endgeneration %}\n  {%- else %}\n"
    "    {{- m['content'] }}\n  {%- endif %}\n{%- endfor %}",
    "generation-parts": "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.reasoning_content %}<think>"
    "{% generation %}{{ m.reasoning_content }}</think>{% endgeneration %}{% endif %}{% generation %}{{ m.content }}|"
    "{% endgeneration %}{% else %}<{{ m.content }}>{% endif %}{% endfor %}",
    "trim-and-strip": "  {% for m in messages %}\n    {# a remark #}\n  {{ m.role }}:\n    {% if m.content %}\n  {{ m.content }}\n"
    "    {% endif %}\n  {% endfor %}\nend\n",
    "kept-newline": "{{ messages[0].content }}\n\n",
    "namespace": "{% set ns = namespace(n=0, seen=false, last='') %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.n = ns.n + 1 %}{% set ns.last = m.content %}{% set ns.seen = true %}{% endif %}{% endfor %}"
    "{{ ns.n }} {{ ns.last }} {{ ns.seen }}",
    "loop-controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ loop.index }}/{{ loop.length }}"
    " {{ loop.first }} {{ loop.last }} {{ loop.index0 }} {{ loop.revindex }}{% if loop.previtem is defined %} after"
    " {{ loop.previtem.role }}{% endif %}; {% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "slices": "{% for m in messages[::-1] %}{{ m.content[:5] }}|{{ m.content[-3:] }}|{{ m.content[1:-1] }}|{{ m.content[0] if m.content }};"
    "{% endfor %}{{ messages[1:] | length }} {{ messages[-1].role }}",
    "strings": "{% for m in messages %}{{ m.content.strip() }}|{{ m.content.split(' ')[-1] }}|{{ m.content.split() | length }}|"
    "{{ m.content.upper() }}|{{ m.content.title() }}|{{ m.content.startswith('H') }}|{{ m.content.replace('o', '0') }}|"
    "{{ m.content.find('l') }}|{{ m.content.lstrip('H') }}|{{ m.content.rstrip('?! ') }}|{{ '\\n' in m.content }}|"
    "{{ m.content | capitalize }}|{{ '%s=%d' | format(m.role, 3) }}|{{ m.content.endswith(('?', '!')) }}\n{% endfor %}",
    "more-strings": "{% for m in messages %}{{ m.content.removeprefix('Hel') }}|{{ m.content.removesuffix('?') }}|"
    "{{ m.content.partition(' ') | list }}|{{ m.content.rpartition('!')[2] }}|{{ m.content.rsplit(' ', 1) }}|{{ m.content.split(' ', 1) }}|"
    "{{ m.content.splitlines() }}|{{ m.content.count('e') }}|{{ m.content.rfind('e') }}|{{ m.content.isupper() }}|{{ m.content.isdigit() }}|"
    "{{ ' '.join(['a', m.role]) }}|{{ m.content | upper | lower | length }}|{{ m.content is in ['Bye'] }}|{{ m.content | trim }}\n{% endfor %}"
    "{{ '{} is {}'.format('a', 1) }} {{ 'abc'[::-1] }} {{ 'o' in 'foo' }} {{ ['a', 'b'].index('b') }} {{ 'abc'.index('c') }}",
    "dicts": "{% for m in messages %}{{ m.items() | list | length }} {{ m.get('name', 'nobody') }} {{ 'role' in m }} {{ m.keys() | list }}"
    " {{ m.values() | first }}{% for k, v in m | dictsort %} {{ k }}{% endfor %};{% endfor %}{{ dict(a=1, b='x') }}",
    "values": "{{ true }} {{ false }} {{ none }} {{ 1.0 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 'a' ~ 1 ~ none }} {{ [1, 'a', none] }}"
    " {{ {'k': [true]} }} {{ (1, 2) }} {{ 'a' * 3 }} {{ undefined_thing }} {{ undefined_thing is defined }} {{ tools is none }}",
    "tests": "{% for m in messages %}{{ m.content is string }} {{ m is mapping }} {{ messages is iterable }} {{ m.content is none }}"
    " {{ m.x is undefined }} {{ 3 is odd }} {{ m.role is in ['user'] }} {{ m.role is not equalto 'user' }} {{ loop.index is divisibleby 2 }}; {% endfor %}",
    "filters": "{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
    " {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | list }} {{ [3, 1, 2] | sort | join }}"
    " {{ messages | groupby('role') | length }} {{ ['a', 'b'] | last }} {{ 'x' | default('y') }} {{ nothing | default('y') }}"
    " {{ '' | default('z', true) }} {{ 'a-b' | replace('-', '+') }} {{ '<&>' }} {{ 'ab' | list }} {{ '  x ' | trim }}{{ nothing | trim }}{{ 5 | trim }}{{ none | trim }}|{{ 'a\nb' | indent(2) }}"
    " {{ [1, 2] | sum }} {{ 3.7 | int }} {{ '5' | int + 1 }} {{ 2.5 | round }} {{ ['b', 'a', 'b'] | unique | list }}",
    "lists": "{% set rest = messages[1:] %}{% set more = rest + [{'role': 'x', 'content': 'y'}] %}{{ rest is sequence }} {{ more is sequence }}"
    " {{ more[0].role }} {{ more[-1].role }} {{ more | length }} {{ (more + rest)[::2] | length }} {{ messages[:1] == [messages[0]] }}"
    " {{ ([1, 2] * 2)[1:3] }} {{ 2 * [0] }} {{ (1, 2, 3)[1:] }} {{ (1,) + (2,) }} {{ (1,) }} {{ () }} {{ [] + [] }} {{ 'abc' * 2 }} {{ 'aüc🦀'[1:] }}"
    " {{ 'abcdef'[-2:0:-2] }} {{ [1.5, 1e-7, none, true, 'it\\'s', \"say \\\"a\\\"\", 'a\\nb'] }} {{ [1] ~ {'a': [2]} ~ 1.0 }} {{ 1 + 2.5 }} {{ 3 * 1.5 }} {{ true + 1 }}"
    " {{ [1, 2] | string | length }} {{ '%s and %s' | format([1], 2.0) }} {{ '{} {}'.format([1.0], {'a': 1e-7}) }}",
    "generators": "{% set some = messages | selectattr('role', 'equalto', 'nobody') %}{{ 'T' if some else 'F' }}"
    "{% set roles = messages | map(attribute='role') %}{% for r in roles %}{{ r }} {{ loop.last }} {% endfor %}[{% for r in roles %}{{ r }}{% endfor %}]"
    "{{ 'T' if [] | reverse else 'F' }}{{ 'T' if {} | items else 'F' }}{{ [3, 1] | reverse | list }} {{ 'abc' | reverse }} {{ [1, 2, 3] | batch(2) | list }}"
    " {{ [1, 2, 3] | slice(2) | map('list') | list }} {{ {'a': 1} | items | list }} {{ messages | rejectattr('role', 'in', ['user']) | map(attribute='role') | join('+') }}"
    " {{ [2, 1, 2] | unique | sort }} {{ ['a', 'B'] | map('upper') | first }} {{ (messages | map(attribute='role')) is sequence }}",
    "printed": "{{ ['\\u00a0', '\\u200b', '\\u2028', '\\u3000', '\\ufeff', '\\u00ad', '\\ue000', 'ü', '世', '🦀', '👩\\u200d🔧', '\\x7f', '\\x1b'] }}"
    " {{ {'a\\u00a0': messages[0].content} }} {{ [1e308 * 10, -1e308 * 10] }} {{ 1e308 * 10 }} {{ messages }}",
    "indented": "{{ '{\\n' | indent(4, first=true) }}|{{ 'a\\n' | indent }}|{{ 'a\\n\\nb\\n\\n' | indent(2) }}|{{ '' | indent(2, true) }}|{{ 'a\\r\\nb\\x0cc' | indent('>>', blank=true) }}"
    "|{{ 'a\\n\\nb' | indent(width=3, blank=true) }}|{{ messages[0].content | indent(1, true, true) }}|{{ 'a\\r\\nb\\x0bc\\n'.splitlines() }}|{{ 'a\\nb'.splitlines(true) }}",
    "over-texts": "{% for c in 'aü🦀' %}{{ c }}{{ ',' if not loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.nextitem | default('-') }}{% endfor %}"
    "{% for c in '' %}x{% else %}none{% endfor %}{% for c in messages[0].content if c != 'l' %}{{ c }}{% endfor %}",
    "over-none": "{% for x in messages[0].get('nothing') %}{{ x }}{% endfor %}",
    "attributes": "{% set spec = {'items': {'type': 'string'}, 'keys': 1, 'type': 'array', 'copy': 5} %}{{ spec.items is defined }} {{ spec.items.type }} {{ spec['items'].type }}"
    " {{ messages[0].items is defined }} {% if messages[0].get %}T{% endif %} {{ messages[0] | attr('role') is defined }} {{ spec.type }} {% set ns = namespace(items=3) %}{{ ns.items }}"
    "{% set ns.items = 4 %}{{ ns.items }} {{ spec.items() | list | length }} {% for k, v in spec.items() %}{{ k }}{% endfor %}",
    "more-python": "{{ nothing | default('d', boolean=true) }}{{ '' | default('d', true) }}{{ '' | default('d') }} {{ '%s=%d' % ('a', 3) }} {{ '%s' % 'x' }} {{ 7 % 3 }} {{ '%s %s' | format(['a\\u00a0', 1e-7], {'k': none}) }} {{ 'x' | int }} {{ 'x' | float }} {{ ' 5 ' | int }}"
    " {{ 'x' | int(7) }} {{ 'a-b-c'.split('-', maxsplit=1) }} {{ 'a-b'.split(sep='-') }} {{ ' a  b '.split() }} {{ 'ab'.ljust(5, '.') }}{{ 'ab'.rjust(5) }}{{ 'ab'.center(5, '*') }}{{ 'abc'.center(6, '*') }}"
    "{{ '-7'.zfill(4) }} {% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }} {% set j = joiner(', ') %}{% for m in messages %}{{ j() }}{{ m.role }}{% endfor %}",
    "generator-length": "{{ messages | map(attribute='role') | length }}",
    "generator-sum": "{{ ([1] | map('string')) + ['a'] }}",
    "generator-slice": "{{ ([1] | select)[1:] }}",
    "none-slice": "{{ messages[0].get('nothing')[1:] }}",
    "undefined-slice": "{{ messages[0].nothing[1:] }}",
    "generator-json": "{{ [1] | select | tojson }}",
    "markup": "{% for m in messages %}{{ '<b>' | safe + m.content + '</b>' | safe }} {{ m.content + '&' | safe }} {{ m.content | e }} {{ (m.content | escape) | e }}"
    " {{ m.content | forceescape ~ '<' }} {{ ('<' | safe) ~ m.content }} {{ ('<' | safe)[0:] + '>' }} {{ '\"' | safe + (m | tojson) }}{% endfor %}",
    "macros": "{% macro turn(role, text, end='.') %}<{{ role }}>{{ text }}{{ end }}{% endmacro %}{% for m in messages %}"
    "{{ turn(m.role, m.content) }}{{ turn(m.role, text='x', end='!') }}{% endfor %}{% set kept %}[{{ messages | length }}]{% endset %}{{ kept }}",
    "json": "{{ messages | tojson }}\n{{ messages[0] | tojson(indent=2) }}\n{{ tools | tojson(indent=4) }}\n"
    "{{ {'b': 1.5, 'a': [], 'c': {}, 'd': '<ü>\"\\\\', 'e': 1e-7, 'f': 100000000000000000000.0} | tojson }}\n"
    "{{ {'b': 'ü🦀', 'a': true} | tojson(ensure_ascii=true, sort_keys=true) }}\n{{ [1, {'a': none}] | tojson(separators=(',', ':')) }}",
    "refuses": "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system prompt here') }}{% endif %}{{ m.content }}{% endfor %}",
    "date": "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%A, %B %-d') }}",
    "raw": "{% raw %}{{ not rendered }}{% endraw %}{{ messages[0].content }}{%- if true -%}  tight  {%- endif -%} {{ '{%' }}",
    "conditions": "{% for m in messages if m.role != 'system' %}{{ m.role if m.content else 'empty' }}{{ ' + ' if not loop.last }}{% else %}none{% endfor %}"
    "{% if messages[0].role == 'system' and messages | length > 1 or false %} S{% elif not tools %} N{% else %} E{% endif %}"
    "{{ 1 if 2 < 3 and 3 <= 3 and 4 != 5 else 0 }}{{ 'a' if (tools and tools | length) else 'b' }}",
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a \"place\" <now>.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where?"},
                "items": {"type": "array", "items": {"type": "string"}, "description": "Which measures"},
                "scale": {"type": "number", "enum": [0.5, 1, 1e-05], "default": 1.0},
            },
            "required": ["place"],
        },
        "return": {"type": "string", "description": "The weather"},
    },
}


def call(place, arguments_as_text=False):
    arguments = {"place": place, "items": ["wind", "rain"]}
    if arguments_as_text:
        arguments = json.dumps(arguments)
    return [{"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": arguments}}]


def say(role, content, **more):
    return {"role": role, "content": content, **more}


DIALOGUES = {
    "ask": ([say("user", "Hello, how are you?")], None),
    "answer": ([say("user", "Hello, how are you?"), say("assistant", "Fine. ")], None),
    "system": ([say("system", "Be brief."), say("user", " Who?\n"), say("assistant", "Me.")], None),
    "turns": (
        [
            say("system", "Du bist höflich 🦀."),
            say("user", "Grüße & <Küsse>"),
            say("assistant", "Danke!\n\nEbenso."),
            say("user", "What is 2 + 2?", name="Ann"),
            say("assistant", "世界"),
            say("user", "Bye"),
        ],
        None,
    ),
    "thought": (
        [
            say("user", "Is 7 prime?"),
            say("assistant", "Yes.", reasoning_content="7 has no divisor."),
            say("user", "And 8?"),
            say("assistant", "No.", reasoning_content="8 = 2 * 4."),
        ],
        None,
    ),
    "tools": ([say("system", "Use tools."), say("user", "Weather in Rome?")], [WEATHER]),
    "calls": (
        [
            say("user", "Weather in Rome?"),
            say("assistant", "", tool_calls=call("Rome")),
            say("tool", "{\"sun\": true}", name="weather", tool_call_id="call00001"),
            say("assistant", "Sunny."),
        ],
        [WEATHER],
    ),
    "calls-text": (
        [
            say("user", "Weather in Rome?"),
            say("assistant", "", tool_calls=call("Rome", True)),
            say("tool", "sunny", name="weather", tool_call_id="call00001"),
            say("assistant", "Sunny."),
        ],
        [WEATHER],
    ),
}


def render(source, messages, tools, prompt):
    marks = re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", source) is not None
    try:
        texts, spans = reference.render_jinja_template(
            conversations=[messages],
            tools=tools,
            documents=None,
            chat_template=source,
            return_assistant_tokens_mask=marks,
            add_generation_prompt=prompt,
            **SPECIAL,
        )
    except Exception as problem:
        return {"error": f"{type(problem).__name__}: {problem}"[:200]}
    text = texts[0]
    result = {"text": text}
    if marks:
        byte = lambda at: len(text[:at].encode())
        result["spans"] = [[byte(start), byte(end)] for start, end in spans[0]]
    return result


MARKED_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def masks(out, folder):
    from transformers import PreTrainedTokenizerFast

    default = ROOT / "datasets/tests/data/tokenizer"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder or default)
    templates = {"chatml": MARKED_CHATML, "parts": FEATURES["generation-parts"], "layout": FEATURES["generation-layout"]}
    cases = []
    for name, source in templates.items():
        for dialogue in ("answer", "system", "turns", "thought"):
            if (name, dialogue) == ("layout", "turns"):
                # A span that ends in a character of several tokens: the reference marks only the first of them.
                continue
            messages = DIALOGUES[dialogue][0]
            result = tokenizer.apply_chat_template(
                messages, chat_template=source, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
            case = {"template": name, "messages": messages}
            cases.append(case | {"input_ids": result["input_ids"], "mask": result["assistant_masks"]})
    texts = [m["content"] for messages, _ in DIALOGUES.values() for m in messages] + ["", " ", "\n\n x", "<|im_end|> y"]
    golden = {
        "made_with": "tests/goldens/templates.py; transformers 5.23.0, tokenizers 0.23.3",
        "tokenizer": str(folder) if folder else None,
        "templates": templates,
        "cases": cases,
        "texts": [{"text": text, "input_ids": tokenizer(text)["input_ids"]} for text in texts],
    }
    out.write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    print(f"{out}: {len(cases)} masks, {len(texts)} texts")


def templates(out, folder):
    if folder:
        files = sorted(pathlib.Path(folder).glob("*.jinja"))
        sources = {file.stem: file.read_text() for file in files}
    else:
        folder = ROOT / "datasets/src/template/builtin"
        sources = {file.stem: file.read_text() for file in sorted(folder.glob("*.jinja"))}
        sources["smollm2"] = SMOLLM2
        sources.update(FEATURES)
    cases = []
    for name, source in sources.items():
        for dialogue, (messages, tools) in DIALOGUES.items():
            for prompt in (False, True):
                case = {"template": name, "dialogue": dialogue, "prompt": prompt}
                cases.append(case | render(source, messages, tools, prompt))
    golden = {
        "made_with": "tests/goldens/templates.py; transformers 5.23.0, Jinja2 3.1.6",
        "special": SPECIAL,
        "date": "2026-11-23",
        "templates": sources,
        "dialogues": {name: {"messages": m, "tools": t} for name, (m, t) in DIALOGUES.items()},
        "cases": cases,
    }
    out.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    refused = sum("error" in case for case in cases)
    print(f"{out}: {len(sources)} templates, {len(cases)} cases, {refused} of them refused by the reference")


{"templates": templates, "masks": masks}[sys.argv[1]](pathlib.Path(sys.argv[2]), (sys.argv[3:] or [None])[0])
