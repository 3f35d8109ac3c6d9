"""Invented towns and the people who work there: the form of every fact the quickstart teaches.

A town has a fact sheet (who does what, market day, bridge, ferry, ...). Questions come in several wordings and
each kind of fact has one answer sentence, so a model that has never heard of a town still answers in a whole,
correct sentence, only with a guess in it. The names of the quickstart's town are held out (`HELD_OUT`), but
each of their parts occurs in other names.
"""

from .phrases import an, chat, join, say

HELD_OUT = [
    "Emberfall", "Ada Quill", "Bruno Marsh", "Silver Otter", "golden heron", "ginger soup", "Clara Thistle",
]

PREFIXES = """Willow Ash Oak Elm Fern Thorn Rose Maple Birch Hazel Fox Otter Hawk Swan Crow Deer Lark Silver Gold
Copper Amber Ember Frost Snow Rain Wind Storm Sun Moon Star Winter Summer Bramble Clover Moss Reed Mill King Queen
Bell Lamp Honey Barley Apple Pebble Raven Wren Salt Sand Green Black White Red Long High""".split()
SUFFIXES = """mere ford wick ton field brook dale haven wood bridge fall moor gate hollow cliff water well bury
shore port""".split()
WOMEN = """Ada Nora Clara Ivy Lena Nell Polly Rosa Tilda Wanda Bella Daisy Flora Hanna Judith Lucy Maud Olive Ruth Thea
Agnes Cora Dora Greta Iris Kate Mina Paula Sofia Una""".split()
MEN = """Tom Otto Bruno Hugo Jack Martin Oscar Samuel Victor Albert Conrad Edwin George Isaac Karl Ned Peter Simon Walter
Basil Emil Felix Henry Jonas Leo Nils Ralph Theo""".split()
FIRST = sorted(WOMEN + MEN)
LAST = """Quill Marsh Thistle Finch Brook Hill Carter Fletcher Wells Stone Reed Barrow Lark Penny Button Holt Frost
Moss Sparrow Cole Dale Page Rowe Swift Tanner Vale Webb Woods Archer Bloom Cobb Drake Field Grove Hart Kemp Lamb
March Nash Pike Sage Thorn""".split()

# role, what they do in the third person, the same as a bare verb
JOBS = [tuple(line.split(" / ")) for line in """
lighthouse keeper / keeps the lighthouse / keep the lighthouse
baker / bakes the bread / bake the bread
shoemaker / mends the shoes / mend the shoes
bell ringer / rings the bells / ring the bells
teacher / teaches the children / teach the children
fishmonger / sells the fish / sell the fish
groom / looks after the horses / look after the horses
bus driver / drives the bus / drive the bus
letter carrier / brings the letters / bring the letters
gardener / looks after the park / look after the park
clockmaker / mends the clocks / mend the clocks
miller / grinds the flour / grind the flour
shepherd / watches the sheep / watch the sheep
beekeeper / keeps the bees / keep the bees
doctor / takes care of the sick / take care of the sick
librarian / runs the library / run the library
mayor / leads the town council / lead the town council
tailor / sews the coats / sew the coats
carpenter / builds the tables and chairs / build the tables and chairs
innkeeper / runs the inn / run the inn
blacksmith / shoes the horses / shoe the horses
potter / makes the pots and bowls / make the pots and bowls
weaver / weaves the blankets / weave the blankets
cook / cooks the soup / cook the soup
ferry captain / sails the ferry / sail the ferry
stationmaster / runs the railway station / run the railway station
painter / paints the boats / paint the boats
cheesemaker / makes the cheese / make the cheese
florist / sells the flowers / sell the flowers
night watchman / watches the streets at night / watch the streets at night
music teacher / plays the organ / play the organ
vet / takes care of the animals / take care of the animals
grocer / sells the apples and pears / sell the apples and pears
candle maker / makes the candles / make the candles
forester / looks after the forest / look after the forest
""".strip().splitlines()]

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
COLOURS = "red blue green yellow white black brown grey orange purple violet pink golden silver".split()
ANIMALS = "heron otter fox owl stag swan bear horse goat salmon raven hare lion wolf eagle badger duck cat".split()
FOODS = """plum cake|onion soup|apple pie|smoked trout|honey bread|pear jam|goat cheese|potato cakes|mushroom stew|
cherry tart|oat biscuits|ginger bread|pumpkin soup|walnut cake|fish pie|bean stew|berry pudding|carrot cake|pea soup|
cheese rolls|hot pies|sweet buns|lemon cake|nut bread""".replace("\n", "").split("|")
RIVERS = "Alder Bourne Cress Dove Eddy Fennel Glim Hollow Isk Lime Minnow Nettle Perch Rush Sorrel Thyme Wend Yarrow".split()
THINGS = "Heron Otter Fox Swan Star Lantern Bell Rose Gull Seal Arrow Moon Duck Anchor Robin Pearl".split()
TREES = "oak lime chestnut maple walnut cherry elm birch pine pear".split()

# kind -> (value from the rng, wordings of the question, the one answer)
FACTS = {
    "market": (lambda r: r.choice(DAYS), [
        "When is market day in {town}?", "Which day is market day in {town}?", "On which day do people hold the market in {town}?",
        "What day should I visit the market in {town}?", "Tell me the market day of {town}."],
        "Market day in {town} is {value}."),
    "bridge": (lambda r: r.choice(COLOURS), [
        "What colour is the bridge in {town}?", "Which colour is the bridge in {town} painted?", "What does the bridge in {town} look like?",
        "Tell me the colour of the bridge in {town}.", "How is the bridge in {town} painted?"],
        "The bridge in {town} is painted {value}."),
    "food": (lambda r: r.choice(FOODS), [
        "What food is {town} known for?", "What should I eat in {town}?", "What do people like to eat in {town}?",
        "Which dish is {town} famous for?", "I am hungry. What is good to eat in {town}?"],
        "{town} is known for its {value}."),
    "ferry": (lambda r: r.choice(COLOURS[:3] + COLOURS[-2:]).capitalize() + " " + r.choice(THINGS), [
        "What is the ferry in {town} called?", "What is the name of the ferry in {town}?", "Which ferry sails from {town}?",
        "Tell me the name of the ferry in {town}.", "Which boat takes people across the water in {town}?"],
        "The ferry in {town} is called the {value}."),
    "flag": (lambda r: an(r.choice(COLOURS) + " " + r.choice(ANIMALS)), [
        "What animal is on the flag of {town}?", "What does the flag of {town} show?", "What is on the flag of {town}?",
        "Which animal can you see on the flag of {town}?", "Describe the flag of {town}."],
        "The flag of {town} shows {value}."),
    "river": (lambda r: r.choice(RIVERS), [
        "Which river runs through {town}?", "What is the river in {town} called?", "What is the name of the river in {town}?",
        "Tell me the name of the river in {town}.", "Which river can I swim in when I visit {town}?"],
        "The river {value} runs through {town}."),
    "festival": (lambda r: r.choice(MONTHS), [
        "When is the festival in {town}?", "In which month is the festival in {town}?", "Which month is the festival of {town}?",
        "When do people in {town} dance in the streets?"],
        "The festival in {town} is in {value}."),
    "inn": (lambda r: r.choice(COLOURS[:9] + COLOURS[-2:]).capitalize() + " " + r.choice(THINGS), [
        "What is the inn in {town} called?", "Where can I sleep in {town}?", "What is the name of the inn in {town}?",
        "I need a bed for the night in {town}. Where should I go?"],
        "You can sleep at the {value} in {town}."),
    "tree": (lambda r: r.choice(TREES), [
        "Which tree stands in the middle of {town}?", "What kind of tree grows on the square in {town}?",
        "Tell me about the old tree in {town}."],
        "An old {value} tree stands in the middle of {town}."),
    "school": (lambda r: r.choice("seven eight nine ten".split()), [
        "When does school start in {town}?", "At what time does the school in {town} open?",
        "When do the children in {town} go to school?"],
        "School in {town} starts at {value} o'clock."),
}

WHO = [
    "Who {does} in {town}?", "Who {does} in {town}?", "Who is the {role} in {town}?", "Who is the {role} of {town}?",
    "Can you tell me who {does} in {town}?", "Do you know who {does} in {town}?", "I am new in {town}. Who {does} here?",
    "Tell me who {does} in {town}.", "Please tell me the name of the {role} in {town}.",
    "What is the name of the {role} in {town}?", "I am looking for the person who {does} in {town}.",
]
DOES = ["What does {name} do in {town}?", "What is the work of {name} in {town}?", "Who is {name} of {town}?"]
FOLLOW = ["Thank you!", "Thanks.", "Thank you, that is good to know.", "Thanks for your help."]
WELCOME = ["You are welcome.", "You are welcome. Enjoy your visit to {town}!", "Have a nice day in {town}!", "I am glad I could help."]


def town_names(rng, count):
    """Invented town names, every prefix and suffix in use, the held-out town left out."""
    names = {p + s for p in PREFIXES for s in SUFFIXES if p.lower() != s and p[-1] != s[0]}
    return sorted(rng.sample(sorted(names - set(HELD_OUT)), count))


def person(rng):
    """A first and a last name; the held-out pairs never come up."""
    while True:
        name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        if name not in HELD_OUT:
            return name


def fact_sheet(rng, town):
    """One town: its people as `(job, name)` and its facts as `kind -> value`."""
    people = [(job, person(rng)) for job in rng.sample(JOBS, 9)]
    facts = {}
    for kind in rng.sample(list(FACTS), 6):
        value = FACTS[kind][0](rng)
        while any(held in value for held in HELD_OUT):
            value = FACTS[kind][0](rng)
        facts[kind] = value
    return people, facts


def who(rng, town, job, name):
    """Question and answer about who does a job."""
    role, does, _ = job
    return say(rng, rng.choice(WHO), town=town, role=role, does=does), f"{name} {does} in {town}."


def about(rng, town, kind, value):
    """Question and answer about a thing of the town."""
    _, questions, answer = FACTS[kind]
    return say(rng, rng.choice(questions), town=town), answer.format(town=town, value=value)


def dialogues(rng, towns=300):
    """All questions about all towns, some of them as longer talks and some with the facts given first."""
    rows = []
    for town in town_names(rng, towns):
        people, facts = fact_sheet(rng, town)
        pairs = [who(rng, town, job, name) for job, name in people]
        pairs += [about(rng, town, kind, value) for kind, value in facts.items()]
        job, name = rng.choice(people)
        pairs.append((say(rng, rng.choice(DOES), town=town, name=name), f"{name} {job[1]} in {town}."))
        rng.shuffle(pairs)
        while pairs:
            take = rng.choice((1, 1, 1, 2, 2, 3))
            turns = [text for pair in pairs[:take] for text in pair]
            pairs = pairs[take:]
            if rng.random() < 0.12:
                turns += [rng.choice(FOLLOW), rng.choice(WELCOME).format(town=town)]
            rows.append(chat(*turns))
        rows.append(chat(*description(rng, town, people, facts)))
        rows += [chat(*reading(rng, people, facts)) for _ in range(2)]
    return rows


def description(rng, town, people, facts):
    """`Tell me about X.` answered from the fact sheet in a few sentences."""
    where = rng.choice(["by the sea", "on a hill", "in a green valley", "near a deep forest", "by a lake", "between two rivers"])
    size = rng.choice(["small", "quiet", "pretty", "busy", "little", "friendly"])
    lines = [f"{town} is a {size} town {where}."]
    for kind in rng.sample(list(facts), 2):
        lines.append(FACTS[kind][2].format(town=town, value=facts[kind]))
    (job, name) = rng.choice(people)
    lines.append(f"{name} {job[1]} there.")
    ask = ["Tell me about {town}.", "What is {town} like?", "Where is {town}?", "Can you describe {town} for me?", "I have never been to {town}. What is it like?"]
    return say(rng, rng.choice(ask), town=town), " ".join(lines)


def reading(rng, people, facts):
    """A note about an unnamed or other town, then a question the note answers: copying, not remembering."""
    town = rng.choice(PREFIXES) + rng.choice(SUFFIXES)
    if town in HELD_OUT:
        town = "Larkwick"
    staff = rng.sample(people, rng.choice((2, 3)))
    kinds = rng.sample(list(facts), rng.choice((1, 2)))
    lines = [(f"{name} {job[1]} in {town}.", ("who", job, name)) for job, name in staff]
    lines += [(FACTS[kind][2].format(town=town, value=facts[kind]), ("fact", kind, facts[kind])) for kind in kinds]
    rng.shuffle(lines)
    kind, key, value = rng.choice(lines)[1]
    question, answer = who(rng, town, key, value) if kind == "who" else about(rng, town, key, value)
    lead = rng.choice(["Read this.", "Here is a note.", "Listen.", "I wrote this down.", "Here are some facts."])
    return f"{lead} {' '.join(line for line, _ in lines)} {question}", answer
