"""Templates: `[a|b]` picks one choice, `{name}` fills a slot, the first letter becomes a capital."""

import re

CHOICE = re.compile(r"\[([^\[\]]*)\]")


def say(rng, template, **slots):
    """Expand a template with the choices of `rng`; innermost choices first, so they may nest."""
    text = template
    while CHOICE.search(text):
        text = CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text)
    text = re.sub(r"\s+", " ", text.format(**slots)).strip()
    # A capital at the start of every sentence, wherever a slot landed there.
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def an(noun):
    """`apple` -> `an apple`."""
    return ("an " if noun[0] in "aeiou" and not noun.startswith("uni") else "a ") + noun


def join(words, last="and"):
    """`[a, b, c]` -> `a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" {last} " + words[-1]


def chat(*turns, system=None):
    """Turns in order, the user first, as the messages of one dialogue."""
    messages = [{"role": "system", "content": system}] if system else []
    for index, turn in enumerate(turns):
        messages.append({"role": ("user", "assistant")[index % 2], "content": turn})
    return messages
