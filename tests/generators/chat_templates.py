"""Writes tests/fixtures/chat_templates.json: conversations rendered by transformers' own code for chat templates.

Needs `pip install transformers` and `pip install --no-deps trl`; PyTorch and tokenizers' files are not needed. The
templates of Llama 3, 3.1, 3.2, Qwen2.5, Qwen3, Gemma, Gemma 3, Phi-3 and Phi-3.5 are the originals that TRL ships
(trl/chat_templates, Apache-2.0); its README says of which checkpoint each is. The short ones below were written down
from what their authors published.
"""

import datetime
import importlib.metadata
import importlib.util
import json
import pathlib

import jinja2
import transformers.utils.chat_template_utils as hf

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_1 = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
# The shape of Mistral's v3 template without its tools: the system text moves to the last user message.
MISTRAL_3 = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
# What no checkpoint has together: Python's methods, tojson's options, dates, loop controls, white space, line breaks.
CORNERS = (
    "{%- set ns = namespace(n=0) -%}\r\n"
    "    {% for m in messages %}\r\n"
    "  {% if m.content.startswith('H') and 'tool_calls' not in m %}\n"
    "{{ m.content.split(' ')[-1].rstrip('\\n').upper() }}|{{ m.get('name', 'x') }}|{{ m.items() | list | length }}\n"
    "  {%- else %}\n"
    "[{{ m['content'][:5] }}|{{ m.content.replace('o', '0') | trim }}|{{ m.content.strip() }}|{{ m.missing }}]\n"
    "  {%- endif %}\n"
    "{{ m | tojson }}{{ m | tojson(indent=2, ensure_ascii=True) }}{{ [m.content, 1, 2.5, none, true, {}, []] | tojson(separators=(',', ':')) }}\n"
    "{{ {'b': 1, 'a': {'z': []}} | tojson(sort_keys=True) }}{{ {'b': 1, 'a': 2} | tojson }}\n"
    "    {# a comment #}\n"
    "    {% set ns.n = ns.n + 1 %}\n"
    "    {% if ns.n > 2 %}{% break %}{% endif %}\n"
    "    {% generation %}\n"
    "  said {{ m.role }}\n"
    "    {% endgeneration +%}\n"
    "{% endfor %}\n"
    "{{ ns.n }} {{ none }} {{ true }} {{ 1.0 }} {{ messages[::-1][0].role }} {{ tools is none }} {{ documents is defined }}\n"
    "{{ loop is defined }}{{ strftime_now('%A %d %B %Y, %-d %b %y %j') if strftime_now is defined }}\n\n"
)
DROPS_SYSTEM = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'] + ': ' + message['content'] + '\\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)

# Name, template or TRL's file, special tokens, and the file of the same template with marks for training.
FAMILIES = [
    ("llama_2", LLAMA_2, ("<s>", "</s>"), None),
    ("llama_3", "llama3", ("<|begin_of_text|>", "<|eot_id|>"), "llama3_training"),
    ("llama_3_1", "llama3_1", ("<|begin_of_text|>", "<|eot_id|>"), None),
    ("llama_3_2", "llama3_2", ("<|begin_of_text|>", "<|eot_id|>"), None),
    ("qwen_2_5", "qwen2_5", (None, "<|im_end|>"), "qwen2_5_training"),
    ("qwen_3", "qwen3", (None, "<|im_end|>"), "qwen3_training"),
    ("gemma_2", "gemma", ("<bos>", "<eos>"), "gemma_training"),
    ("gemma_3", "gemma3", ("<bos>", "<eos>"), "gemma3_training"),
    ("mistral_1", MISTRAL_1, ("<s>", "</s>"), None),
    ("mistral_3", MISTRAL_3, ("<s>", "</s>"), None),
    ("chatml", CHATML, (None, "<|im_end|>"), None),
    ("zephyr", ZEPHYR, ("<s>", "</s>"), None),
    ("phi_3", "phi3", ("<s>", "<|endoftext|>"), "phi3_training"),
    ("phi_3_5", "phi3_5", ("<s>", "<|endoftext|>"), "phi3_5_training"),
    ("corners", CORNERS, ("<s>", "</s>"), None),
    ("drops_system", DROPS_SYSTEM, (None, None), None),
    ("qwen_3_marked", "qwen3_training", (None, "<|im_end|>"), "qwen3_training"),
    ("gemma_2_marked", "gemma_training", ("<bos>", "<eos>"), "gemma_training"),
]
S, U, A = "system", "user", "assistant"
CONVERSATIONS = {
    "plain": [(U, "Hi")],
    "system": [(S, "Be brief."), (U, "Hi")],
    "turns": [(S, "Be kind."), (U, "Hello there"), (A, "How are you?"), (U, "Fine"), (A, "Good."), (U, "And you?")],
    "answered": [(U, "One"), (A, "Two"), (U, "Three"), (A, "Four")],
    "answered_with_system": [(S, "Count."), (U, "One"), (A, "Two"), (U, "Three"), (A, "Four")],
    "one_answer": [(S, "Sys"), (U, "Ask"), (A, "An answer\nof two lines")],
    "unicode": [(S, "Été 漢字"), (U, "Hello 🦀 \u00a0\u202e\u200d é ½ ſ"), (A, "Ünïcödé\u2028 ok")],
    "braces": [(U, "{{ user }} {% if x %} {# c #} \"q\" 'q' \\n \\ <b>&amp; </s> <|im_end|> [/INST]"), (A, "{'a': \"b\"}")],
    "blanks": [(S, " lead\t\n"), (U, "\n\n x \t \n"), (A, "  y\x1c\x1f \n\n"), (U, "\u3000z\u200b\x85 "), (A, "w \n")],
    "carriage": [(U, "a\r\nb\rc\x00\x7f\x08\x0c")],
    "empty_system": [(S, ""), (U, "Hi")],
    "empty_texts": [(U, ""), (A, ""), (U, " "), (A, "")],
    "thoughts": [(U, "Q"), (A, "<think>\nhm\n</think>\n\nR"), (U, "<tool_response>T</tool_response>"), (A, "<think>so</think>V\n")],
    "answer_alone": [(A, "Alone")],
    "system_alone": [(S, "Only")],
    "two_users": [(U, "Hi"), (U, "there"), (A, "Yes?"), (A, "Go on.")],
    "late_system": [(U, "Hi"), (S, "Now be rude."), (A, "No.")],
}
# Families of which only some conversations are kept, since the fixture is to stay below 100 kB.
KEPT = {
    "corners": {"plain", "turns", "unicode", "braces", "blanks", "carriage", "thoughts"},
    "phi_3_5": {"plain", "system", "turns", "answered_with_system", "empty_system", "blanks"},
    "qwen_3_marked": {"answered", "answered_with_system", "one_answer", "unicode", "blanks", "thoughts", "late_system"},
    "gemma_2_marked": {"answered", "answered_with_system", "blanks", "empty_texts", "thoughts"},
}
DATE = datetime.datetime(2026, 3, 5)


class Clock:
    """Stands for datetime.datetime in transformers' module, at a fixed date."""

    @staticmethod
    def now():
        return DATE


def trl_template(name):
    folder = pathlib.Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
    return (folder / f"{name}.jinja").read_bytes().decode()


def messages_of(turns):
    return [{"role": role, "content": content} for role, content in turns]


def render(template, turns, tokens, prompt, mask=False, **variables):
    rendered, spans = hf.render_jinja_template(
        [messages_of(turns)], chat_template=template, add_generation_prompt=prompt, return_assistant_tokens_mask=mask,
        **tokens, **variables,
    )
    return (rendered[0], spans[0]) if mask else rendered[0]


def outcome(template, turns, tokens, prompt, **variables):
    try:
        return render(template, turns, tokens, prompt, **variables)
    except jinja2.exceptions.UndefinedError:
        return {"broken": True}
    except jinja2.exceptions.TemplateError as error:
        return {"refused": str(error)}


def without_system(turns):
    """The system text before the first user's, as Google documents it for Gemma."""
    if not turns or turns[0][0] != S:
        return turns
    if turns[0][1].strip() == "":
        return turns[1:]
    if len(turns) < 2 or turns[1][0] != U:
        return None
    return [(U, turns[0][1] + "\n\n" + turns[1][1])] + turns[2:]


def lengths_of(text, spans):
    """Lengths in characters of what is not trained and what is, in turns."""
    lengths, end = [], 0
    for start, stop in [*spans, (len(text), len(text))]:
        lengths += [start - end, stop - start]
        end = stop
    return lengths


def main():
    hf.datetime = Clock
    templates, cases, training = {}, [], []
    for name, source, (bos, eos), marked in FAMILIES:
        template = trl_template(source) if source.isidentifier() else source
        tokens = {key: value for key, value in (("bos_token", bos), ("eos_token", eos)) if value is not None}
        origin = f"trl/chat_templates/{source}.jinja" if source.isidentifier() else "tests/generators/chat_templates.py"
        templates[name] = {"origin": origin, "tokens": tokens, "template": template}
        moves = name in ("gemma_2", "gemma_2_marked", "mistral_1")
        for chat, turns in CONVERSATIONS.items():
            if moves:
                # What the template itself says of a system message is the reason to move it.
                refusal = outcome(template, turns, tokens, True)
                assert not turns or turns[0][0] != S or "refused" in refusal, (name, chat, refusal)
                turns = without_system(turns)
            dropped = name == "drops_system" and any(role == S for role, _ in turns or [])
            if turns is None or dropped or chat not in KEPT.get(name, CONVERSATIONS):
                continue
            with_prompt, without = (outcome(template, turns, tokens, prompt) for prompt in (True, False))
            if isinstance(without, str) and with_prompt.startswith(without):
                with_prompt = {"adds": with_prompt[len(without) :]}
            cases.append([name, chat, without, with_prompt])
            # The marked template is the same text as the original, so that its marks say what the original trains.
            if marked and isinstance(without, str) and any(role == A for role, _ in turns):
                text, spans = render(trl_template(marked), turns, tokens, False, mask=True)
                # TRL's Qwen2.5 marks the line break of the opening too, which no model is asked for.
                if name == "qwen_2_5":
                    spans = [(start + (text[start] == "\n"), end) for start, end in spans]
                if text == without:
                    training.append([name, chat, lengths_of(text, spans)])
    fixture = {
        "made_by": "tests/generators/chat_templates.py",
        "versions": {name: importlib.metadata.version(name) for name in ("transformers", "jinja2", "trl")},
        "date": DATE.date().isoformat(),
        "templates": templates,
        "conversations": CONVERSATIONS,
        "cases": cases,
        "undated": render(trl_template("llama3_2"), CONVERSATIONS["plain"], {"bos_token": "<s>"}, True, date_string="26 Jul 2024"),
        "without_thinking": render(trl_template("qwen3"), CONVERSATIONS["plain"], {}, True, enable_thinking=False),
        "training": training,
    }
    path = pathlib.Path(__file__).parent.parent / "fixtures" / "chat_templates.json"
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    lines = lambda value: "[\n" + ",\n".join(map(dump, value)) + "\n]" if isinstance(value, list) else dump(value)
    path.write_text("{" + ",\n".join(f'"{key}":{lines(value)}' for key, value in fixture.items()) + "}\n", newline="\n")
    print(len(cases), "cases,", len(training), "of training,", path.stat().st_size, "bytes")
    print(sorted({name for name, *_ in training}))


main()
