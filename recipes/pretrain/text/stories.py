"""Little stories of four to six sentences, on request, sometimes with a question about them."""

from .phrases import an, chat, say
from .towns import MEN, WOMEN, town_names

HEROES = [line.split("/") for line in """
fox/clever/he/in the forest
mouse/tiny/she/under the floor
bear/sleepy/he/in a cave
owl/wise/she/in a hollow tree
rabbit/quick/she/in the meadow
dog/friendly/he/on a farm
cat/curious/she/in a small house
duck/cheerful/she/by the pond
hedgehog/shy/he/in the hedge
squirrel/busy/she/in the old oak
horse/strong/he/in the stable
frog/noisy/he/by the pond
robot/small/he/in a workshop
girl/brave/she/by the sea
boy/quiet/he/on a hill
fisherman/old/he/by the sea
baker/kind/she/in a little town
shepherd/young/he/in the mountains
painter/poor/she/in a big city
king/lonely/he/in a castle
dragon/gentle/she/in the mountains
""".strip().splitlines()]
TROUBLES = [
    ("One day {p} lost [a key|a red hat|a golden ring|a little bell] in the [long grass|deep snow|dark forest].", "lost something",
     "{p} looked [under every stone|behind every tree|everywhere], but it was gone.", "{f} came and helped to look for it.", "At last they found it [under a leaf|beside the path|near the river].", "[From then on|After that] they were the best of friends."),
    ("One [cold|dark|quiet] night a [big|terrible|sudden] storm came.", "was afraid of the storm",
     "{p} was [afraid|cold and alone] and could not sleep.", "Then {f} knocked at the door and asked for a dry place.", "They [lit a fire|drank hot tea|sat close together] and told each other stories.", "In the morning the sun was shining again."),
    ("{p} wanted to [see the sea|see the world|climb the highest hill|find the end of the rainbow].", "wanted to travel",
     "So {p} packed [some bread and cheese|a small bag|a blanket and a lamp] and set out [early in the morning|at sunrise].", "On the way {p} met {f}, who knew the road.", "They walked [all day|for three days|over hills and through valleys] until they were there.", "It was [even more beautiful than|just as beautiful as] in a dream."),
    ("{p} wanted to [learn to sing|learn to swim|learn to read|learn to dance], but it was [hard|very hard].", "wanted to learn something",
     "At first {p} made many mistakes and wanted to stop.", 'But {f} said: "[Try again|Do it again], a little every day."', "So {p} practised [every morning|every evening|all winter].", "In the end {p} could do it, and everyone was [proud|amazed|happy]."),
    ("One day {p} found [a basket of apples|a big cheese|a warm cake|a jar of honey] on the path.", "found something",
     "It was [too big|too much] for one alone.", "Then {f} came by and was very hungry.", "{p} shared everything and they ate together [under a tree|in the sun|by the river].", "A meal with a friend [tastes best|is twice as good]."),
    ("One morning the [well|river|stream] was dry and there was no water.", "needed water",
     "{p} walked [far|for a long time] to look for some.", "{f} showed {o} a spring [behind the hill|under a rock|deep in the forest].", "They carried the water home together in [a bucket|two buckets].", "That evening [everyone had enough to drink|they planted flowers around the spring]."),
    ("{p} saw a light in the [forest|tower|old mill] one night.", "saw a light",
     "{p} took a lamp and went to see what it was.", "It was {f}, who had lost the way.", "{p} brought the lost one home and cooked some soup.", "Since then {p} puts a lamp in the window every night."),
    ("{p} had a [birthday|birthday party], but nobody came.", "was alone on a birthday",
     "{p} sat by the window and was sad.", "Then there was a knock and {f} stood at the door with a cake.", "Behind the door were all the neighbours with [flowers|music|lanterns].", "They [sang and danced|laughed and ate] until midnight."),
]
FRIENDS = "an old turtle|a little bird|a kind stranger|a friendly crow|a young goat|the old miller|a white goose|a wandering musician|a small snail|the neighbour|a grey donkey|a clever monkey|a happy child".split("|")
ASKS = ["Tell me a story.", "Tell me a story about {a}.", "Tell me a story about {a}.", "Can you tell me a story about {a}?", "Write a short story about {a}.", "I would like to hear a story about {a}.", "Do you know a story about {a}?", "Please tell me a little story about {an} called {name}."]


def story(rng):
    """Request, story, and questions about the story with their answers."""
    kind, trait, who, place = rng.choice(HEROES)
    name = rng.choice(MEN if who == "he" else WOMEN)
    if rng.random() < 0.15 and place in ("by the sea", "in a little town", "in a big city"):
        place = "in " + rng.choice(town_names(rng, 5))
    friend = rng.choice(FRIENDS)
    start, short, *rest = rng.choice(TROUBLES)
    opening = rng.choice(["Once upon a time there was {a} called {n}.", "There once was {a} whose name was {n}.", "Long ago {a} called {n} lived {l}.", "{n} was {a} who lived {l}.", "A long time ago there lived {a}. The name of the {k} was {n}."])
    lines = [say(rng, opening, a=an(f"{trait} {kind}"), n=name, l=place, k=kind)]
    if "lived {l}" not in opening:
        lines.append(f"{who.capitalize()} lived {place}.")
    slots = {"f": friend, "o": {"he": "him", "she": "her"}[who]}
    for index, part in enumerate([start, *rest]):
        lines.append(say(rng, part, p=who if index % 2 else name, **slots))
    ask = rng.choice(ASKS)
    if "{an}" in ask:
        ask = ask.format(an=an(kind), name=name)
    ask = say(rng, ask, a=an(kind))
    questions = [
        (f"Where did {name} live?", f"{name} lived {place}."), (f"Who was {name}?", f"{name} was {an(trait + ' ' + kind)}."),
        ("Who helped in the story?", say(rng, "{f} helped.", f=friend)) if "helped" in " ".join(lines) else (f"Whom did {name} meet?", f"{name} met {friend}."),
        ("What was the name in the story?", f"The name was {name}."), (f"What happened to {name}?", f"{name} {short}."),
        ("Who was the friend in the story?", f"It was {friend}."),
    ]
    return ask, " ".join(lines), questions


def dialogues(rng, count):
    """Stories on request, stories to read with questions, and stories followed by thanks."""
    rows = []
    for _ in range(count):
        ask, text, questions = story(rng)
        kind = rng.random()
        if kind < 0.55:
            rows.append(chat(ask, text))
        elif kind < 0.7:
            rows.append(chat(ask, text, *rng.choice(questions)))
        elif kind < 0.78:
            rows.append(chat(ask, text, say(rng, "[That was nice!|Thank you for the story.|I like this story.|What a nice story!]"), say(rng, "[I am glad you like it.|You are welcome. Would you like another one?|Thank you!]")))
        else:
            question, answer = rng.choice(questions)
            rows.append(chat(f"{text} {question}", answer))
    return rows
