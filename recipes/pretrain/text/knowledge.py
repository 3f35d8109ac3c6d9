"""Simple true things: animals, colours, opposites, the calendar, small sums, capitals, what things are and do."""

from .phrases import an, chat, join, say
from .towns import DAYS, MONTHS

# animal, sound, home, young, food, legs
ANIMALS = [line.split(",") for line in """
cow,moo,in a barn,calf,grass,four
dog,woof,in a house with people,puppy,meat,four
cat,meow,in a house with people,kitten,fish and mice,four
sheep,baa,on a farm,lamb,grass,four
goat,baa,on a farm,kid,leaves and grass,four
pig,oink,in a sty,piglet,roots and apples,four
horse,neigh,in a stable,foal,hay and oats,four
donkey,hee-haw,in a stable,foal,hay,four
duck,quack,by a pond,duckling,water plants,two
goose,honk,by a pond,gosling,grass,two
hen,cluck,in a hen house,chick,corn,two
owl,hoot,in a hollow tree,owlet,mice,two
crow,caw,in a tall tree,chick,seeds and worms,two
pigeon,coo,on the roofs of the town,chick,seeds,two
frog,croak,by a pond,tadpole,flies,four
lion,roar,on the dry plains,cub,meat,four
tiger,roar,in the jungle,cub,meat,four
wolf,howl,in the forest,cub,meat,four
bear,growl,in a cave,cub,fish and berries,four
mouse,squeak,in a hole,pup,seeds and cheese,four
bee,buzz,in a hive,larva,nectar,six
snake,hiss,under stones,snakelet,mice,no
fox,bark,in a den,cub,mice and berries,four
seal,bark,by the cold sea,pup,fish,no
elephant,trumpet,on the dry plains,calf,leaves,four
monkey,chatter,in the jungle,baby monkey,fruit,four
rabbit,,in a burrow,kit,grass and carrots,four
hare,,in the fields,leveret,grass,four
squirrel,,in a tree,kit,nuts,four
hedgehog,,in the hedge,hoglet,worms,four
otter,,by the river,pup,fish,four
beaver,,in a lodge on the river,kit,bark,four
deer,,in the forest,fawn,leaves,four
swan,,on the lake,cygnet,water plants,two
penguin,,on the ice,chick,fish,two
spider,,in a web,spiderling,flies,eight
ant,,in a nest under the ground,larva,seeds,six
butterfly,,in the meadow,caterpillar,nectar,six
camel,,in the desert,calf,dry grass,four
giraffe,,on the dry plains,calf,leaves from tall trees,four
whale,,in the sea,calf,small fish,no
kangaroo,,on the dry plains,joey,grass,two
bat,squeak,in a cave,pup,moths,two
mole,,under the ground,pup,worms,four
""".strip().splitlines()]

# Sounds that have a verb of their own; the others are said.
CRIES = {sound: sound + ("es" if sound[-1] in "sz" else "s") for sound in "roar howl growl hiss buzz hoot bark trumpet chatter squeak croak".split()}

COLOURS = {
    "green": "grass|a leaf|a frog|a cucumber|a pea|moss|a lime|spinach", "red": "a tomato|a strawberry|a fire engine|blood|a ripe cherry|a ruby|a stop sign",
    "yellow": "a banana|a lemon|butter|a chick|the sun|corn|a sunflower", "white": "snow|milk|salt|a swan|sugar|flour|a snowman|cotton",
    "black": "coal|a crow|the night sky|a panther|ink", "blue": "the sky on a clear day|the sea|a sapphire|a blueberry",
    "brown": "chocolate|wood|a chestnut|earth|toast|a sparrow", "orange": "a carrot|a pumpkin|an orange|a ripe apricot",
    "grey": "an elephant|a rain cloud|a mouse|smoke|a stone|a dolphin", "purple": "a plum|a grape|lavender|an aubergine", "pink": "a pig|a flamingo|a pale rose",
}

OPPOSITES = [pair.split("-") for pair in """big-small hot-cold day-night up-down in-out on-off open-closed fast-slow
old-young happy-sad light-dark heavy-light long-short high-low wet-dry full-empty loud-quiet strong-weak rich-poor hard-soft
early-late clean-dirty left-right near-far thick-thin wide-narrow sweet-sour true-false brave-afraid good-bad first-last
smooth-rough sharp-blunt deep-shallow awake-asleep kind-cruel begin-end push-pull give-take win-lose love-hate
buy-sell laugh-cry float-sink remember-forget always-never inside-outside over-under before-after yes-no more-less
summer-winter north-south east-west morning-evening question-answer friend-enemy noisy-silent easy-difficult
cheap-expensive lost-found tall-short new-old arrive-leave""".split()]

CAPITALS = dict(pair.split("=") for pair in """France=Paris|Germany=Berlin|Italy=Rome|Spain=Madrid|Portugal=Lisbon|England=London|
Scotland=Edinburgh|Wales=Cardiff|Ireland=Dublin|Norway=Oslo|Sweden=Stockholm|Finland=Helsinki|Denmark=Copenhagen|Iceland=Reykjavik|Poland=Warsaw|
Austria=Vienna|Hungary=Budapest|Greece=Athens|Turkey=Ankara|Egypt=Cairo|Kenya=Nairobi|Japan=Tokyo|China=Beijing|India=New Delhi|
Canada=Ottawa|Mexico=Mexico City|Brazil=Brasilia|Peru=Lima|Chile=Santiago|Cuba=Havana|Russia=Moscow|Ukraine=Kyiv|Belgium=Brussels|
Switzerland=Bern|Romania=Bucharest|Bulgaria=Sofia|Croatia=Zagreb|Australia=Canberra|New Zealand=Wellington|Thailand=Bangkok|Vietnam=Hanoi|
South Korea=Seoul|Morocco=Rabat|Ghana=Accra|Argentina=Buenos Aires|Estonia=Tallinn|Latvia=Riga|Nepal=Kathmandu""".replace("\n", "").split("|"))

# what it is, what it is for (a kind, then a use)
THINGS = [line.split(":") for line in """
kettle:a pot for boiling water:boil water:kitchen
hammer:a tool for driving in nails:drive in nails:workshop
saw:a tool for cutting wood:cut wood:workshop
needle:a thin piece of metal for sewing:sew clothes:sewing box
clock:a machine that shows the time:tell the time:living room
umbrella:a thing that keeps you dry in the rain:stay dry in the rain:hall
lamp:a thing that gives light:light a room:living room
spoon:a thing for eating soup:eat soup:kitchen
knife:a tool for cutting:cut bread:kitchen
cup:a small vessel for drinking:drink tea:kitchen
pen:a tool for writing with ink:write a letter:desk
book:a set of pages with words on them:read a story:library
map:a drawing that shows where places are:find the way:backpack
compass:a tool that shows where north is:find north:backpack
ladder:a set of steps for climbing:climb to the roof:shed
bed:a piece of furniture for sleeping:sleep at night:bedroom
chair:a piece of furniture for sitting:sit down:kitchen
table:a piece of furniture with a flat top:eat dinner:kitchen
broom:a brush with a long handle:sweep the floor:cupboard
bucket:a round vessel with a handle:carry water:shed
rope:a strong thick string:tie up a boat:harbour
boat:a small ship:cross the water:harbour
train:a row of wagons that runs on rails:travel far:railway station
bicycle:a vehicle with two wheels:ride to school:shed
bridge:a road over a river:cross a river:river
oven:a hot box for baking:bake bread:kitchen
window:an opening in the wall with glass in it:look outside:wall
key:a small piece of metal that opens a lock:open a door:pocket
mirror:a glass in which you can see yourself:see yourself:bathroom
soap:a thing for washing:wash your hands:bathroom
towel:a cloth for drying:dry your hands:bathroom
comb:a thing with teeth for your hair:tidy your hair:bathroom
telescope:a tube for looking at the stars:look at the stars:tower
drum:an instrument that you hit:make music:music room
violin:an instrument with four strings:play a tune:music room
flute:an instrument that you blow:play a tune:music room
bell:a metal cup that rings:call people together:church tower
candle:a stick of wax that burns:light a dark room:drawer
blanket:a warm cloth for the bed:stay warm at night:bedroom
scarf:a long cloth for the neck:keep your neck warm:hall
basket:a thing for carrying, made of twigs:carry apples:kitchen
spade:a tool for digging:dig a hole:garden
rake:a tool with teeth for gathering leaves:gather leaves:garden
lighthouse:a tower with a light that guides ships:guide ships at night:coast
library:a house full of books:borrow books:town
bakery:a shop that sells bread:buy bread:town
harbour:a safe place for ships:keep ships safe:coast
mill:a house where grain is ground:grind flour:river
garden:a place where plants grow:grow flowers:house
stove:a hot plate for cooking:cook soup:kitchen
fire:something hot and bright that burns wood:keep warm:fireplace
ember:a small piece of wood or coal that still glows:start a new fire:fireplace
spark:a tiny bright piece of fire:light a fire:fireplace
""".strip().splitlines()]

OUTDOORS = {"wall": "in the wall", "coast": "on the coast", "town": "in the town", "river": "by the river", "house": "behind the house"}

KINDS = {kind: words.split() for kind, words in {
    "fruit": "apple pear plum cherry banana orange lemon peach grape fig", "vegetable": "carrot potato onion pea cabbage bean leek turnip",
    "bird": "robin owl swan crow duck eagle heron sparrow", "tree": "oak elm birch maple willow pine ash chestnut", "flower": "rose tulip daisy lily violet poppy",
    "tool": "hammer saw spade rake axe drill", "colour": "red blue green yellow purple brown", "fish": "salmon trout herring carp cod pike",
    "instrument": "violin flute drum piano guitar harp", "drink": "water milk tea juice coffee cocoa", "vehicle": "bus train boat bicycle car lorry",
    "insect": "ant bee wasp fly beetle moth", "metal": "iron gold silver copper tin", "season": "spring summer autumn winter", "piece of clothing": "coat hat scarf shirt sock glove",
}.items()}
PLURALS = dict(pair.split("-") for pair in "mouse-mice goose-geese child-children foot-feet tooth-teeth man-men woman-women leaf-leaves wolf-wolves knife-knives sheep-sheep ox-oxen fox-foxes baby-babies city-cities house-houses tree-trees bus-buses cherry-cherries loaf-loaves".split())

# Single facts: question wordings | answer
PLAIN = [line.split("|") for line in """
How many days are in a week?|How many days does a week have?|A week has seven days.
How many months are in a year?|How many months does a year have?|A year has twelve months.
How many hours are in a day?|How many hours does a day have?|A day has twenty-four hours.
How many minutes are in an hour?|How long is an hour?|An hour has sixty minutes.
How many seconds are in a minute?|How long is a minute?|A minute has sixty seconds.
How many seasons are there?|What are the seasons?|There are four seasons: spring, summer, autumn and winter.
Where does the sun rise?|In which direction does the sun rise?|The sun rises in the east.
Where does the sun set?|In which direction does the sun go down?|The sun sets in the west.
What is ice?|What is ice made of?|Ice is frozen water.
What is snow?|What is snow made of?|Snow is made of tiny crystals of ice.
What is rain?|Where does rain come from?|Rain is water that falls from the clouds.
What do bees make?|What do we get from bees?|Bees make honey.
What is bread made of?|How do you make bread?|Bread is made of flour, water, salt and yeast.
Where does milk come from?|Who gives us milk?|Milk comes from cows.
Where do eggs come from?|Who lays eggs?|Eggs come from hens.
What is paper made of?|Where does paper come from?|Paper is made of wood.
What is glass made of?|Where does glass come from?|Glass is made of sand.
What is cheese made of?|Where does cheese come from?|Cheese is made of milk.
What is wool?|Where does wool come from?|Wool is the hair of sheep.
What is the moon?|Tell me about the moon.|The moon goes around the earth and shines at night.
What is the sun?|Tell me about the sun.|The sun is a star that gives us light and warmth.
What is a star?|Tell me about the stars.|A star is a great ball of hot gas, very far away.
Why is the sky blue?|What makes the sky blue?|The air scatters the blue light of the sun.
Why do leaves fall?|When do leaves fall from the trees?|Leaves fall in autumn because the trees rest in winter.
What is a rainbow?|When can I see a rainbow?|You can see a rainbow when the sun shines through the rain.
How many legs does a chair have?|How many legs has a chair?|A chair has four legs.
How many wheels does a car have?|How many wheels are on a car?|A car has four wheels.
How many fingers are on a hand?|How many fingers do you have on one hand?|A hand has five fingers.
How many sides does a triangle have?|What is a triangle?|A triangle is a shape with three sides.
How many sides does a square have?|What is a square?|A square is a shape with four equal sides.
What do plants need?|What does a plant need to grow?|Plants need water, light and good earth.
What do we see with?|What are eyes for?|We see with our eyes.
What do we hear with?|What are ears for?|We hear with our ears.
What do we smell with?|What is the nose for?|We smell with our nose.
What do we wear in the rain?|What should I wear in the rain?|Wear a coat and boots in the rain.
What do we wear in the snow?|What should I wear in the snow?|Wear a warm coat, a hat and gloves in the snow.
What is the biggest animal?|Which animal is the biggest of all?|The blue whale is the biggest animal of all.
What is the tallest animal?|Which animal is the tallest of all?|The giraffe is the tallest animal of all.
What is the fastest animal on land?|Which animal runs the fastest?|The cheetah is the fastest animal on land.
What is the highest mountain?|Which mountain is the highest in the world?|Mount Everest is the highest mountain in the world.
What is the largest ocean?|Which ocean is the largest?|The Pacific is the largest ocean.
Who wrote Pride and Prejudice?|Who is the author of Pride and Prejudice?|Jane Austen wrote Pride and Prejudice.
Who wrote Hamlet?|Who is the author of Hamlet?|William Shakespeare wrote Hamlet.
At what temperature does water boil?|When does water boil?|Water boils at one hundred degrees.
At what temperature does water freeze?|When does water freeze?|Water freezes at zero degrees.
Which planet do we live on?|What is the name of our planet?|We live on the planet Earth.
""".strip().splitlines()]

# Around a question, mostly nothing.
FRAMES = ["{q}"] * 6 + ["Please tell me: {q}", "I have a question. {q}", "Hello! {q}", "{q} Thank you!"]
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()


def animals():
    """Questions about every animal, with the one answer each."""
    for name, sound, home, young, food, legs in ANIMALS:
        one, small = an(name), an(young)
        if sound:
            yield [f"What sound does {one} make?", f"What does {one} say?", f"Which sound does {one} make?", f"How does {one} sound?"], f"{one} {CRIES.get(sound) or 'says ' + sound}."
        yield [f"Where does {one} live?", f"What is the home of {one}?", f"Where can I find {one}?"], f"{one} lives {home}."
        yield [f"What is a young {name} called?", f"What do you call a baby {name}?", f"What is the name for a young {name}?"], f"A young {name} is called {small}."
        yield [f"What does {one} eat?", f"What should I feed {one}?", f"What is the food of {one}?"], f"{one} eats {food}."
        yield [f"How many legs does {one} have?", f"How many legs has {one}?"], f"{one} has {legs} legs."


def tables():
    """Colours, opposites, capitals, things, plurals and the calendar: wordings and answer of each fact."""
    for colour, things in COLOURS.items():
        for thing in things.split("|"):
            yield [f"What colour is {thing}?", f"Which colour does {thing} have?", f"Tell me the colour of {thing}."], f"{thing} is {colour}."
    for pair in OPPOSITES:
        for one, other in (pair, pair[::-1]):
            if (one, other) not in (("light", "heavy"), ("short", "tall"), ("old", "new")):
                yield [f"What is the opposite of {one}?", f"Tell me the opposite of {one}.", f"Which word is the opposite of {one}?"], f"The opposite of {one} is {other}."
    for country, city in CAPITALS.items():
        yield [f"What is the capital of {country}?", f"Which city is the capital of {country}?", f"Tell me the capital of {country}.", f"Do you know the capital of {country}?"], f"The capital of {country} is {city}."
        yield [f"Where is {city}?", f"In which country is {city}?", f"Which country has {city} as its capital?"], f"{city} is in {country}."
    for name, meaning, use, place in THINGS:
        one = name if name in ("soap", "fire") else an(name)
        yield [f"What is {one}?", f"Tell me what {one} is.", f"What does the word {name} mean?", f"Can you explain what {one} is?"], f"{one} is {meaning}."
        yield [f"What do people do with {one}?", f"What is {one} for?", f"What can I use {one} for?"], f"You can use {one} to {use}."
        mine = use.replace("yourself", "myself").replace("your ", "my ")
        yield [f"What do I need to {mine}?", f"What can I use to {mine}?"], f"You need {one} to {use}."
        found = f"You can find {one} {OUTDOORS[place]}." if place in OUTDOORS else f"Look for {one} in the {place}."
        yield [f"Where do I find {one}?", f"Where should I look for {one}?"], found
    for one, many in PLURALS.items():
        yield [f"What is the plural of {one}?", f"One {one}, two what?", f"What do you call more than one {one}?"], f"The plural of {one} is {many}."
    for kind, words in KINDS.items():
        for word in words:
            one = one_of(kind, word)
            yield [f"What is {one}?", f"What kind of thing is {one}?"], f"{one} is {an(kind)}."
    for names, what, whole in ((DAYS, "day", "week"), (MONTHS, "month", "year")):
        for index, name in enumerate(names):
            after, before = names[(index + 1) % len(names)], names[index - 1]
            yield [f"Which {what} comes after {name}?", f"What {what} comes after {name}?", f"What is the {what} after {name}?"], f"{after} comes after {name}."
            yield [f"Which {what} comes before {name}?", f"What {what} comes before {name}?", f"What is the {what} before {name}?"], f"{before} comes before {name}."
        yield [f"Name the {what}s of the {whole}.", f"What are the {what}s of the {whole}?", f"List all the {what}s of the {whole}."], f"The {what}s of the {whole} are {join(names)}."
    for index, day in enumerate(DAYS):
        yield [f"Today is {day}. What day is tomorrow?", f"If today is {day}, what is tomorrow?"], f"Tomorrow is {DAYS[(index + 1) % 7]}."
        yield [f"Today is {day}. What day was yesterday?", f"If today is {day}, what was yesterday?"], f"Yesterday was {DAYS[index - 1]}."
    for season, months in (("spring", MONTHS[2:5]), ("summer", MONTHS[5:8]), ("autumn", MONTHS[8:11]), ("winter", MONTHS[11:] + MONTHS[:2])):
        for month in months:
            yield [f"In which season is {month}?", f"Which season is it in {month}?"], f"{month} is in {season}."
        yield [f"Which months are in {season}?", f"When is {season}?"], f"The months of {season} are {join(months)}."
    for row in PLAIN:
        yield row[:-1], row[-1]


def sums():
    """Sums, differences and counting, in digits and in words."""
    for a in range(11):
        for b in range(11):
            yield [f"What is {a} plus {b}?", f"How much is {a} plus {b}?", f"{a} plus {b}?"], f"{a} plus {b} is {a + b}."
            yield [f"What is {NUMBERS[a]} plus {NUMBERS[b]}?", f"How much is {NUMBERS[a]} and {NUMBERS[b]}?"], f"{NUMBERS[a]} plus {NUMBERS[b]} is {NUMBERS[a + b]}."
            if b <= a:
                yield [f"What is {a} minus {b}?", f"How much is {a} minus {b}?", f"Take {b} away from {a}."], f"{a} minus {b} is {a - b}."
    for a in range(20):
        yield [f"Which number comes after {NUMBERS[a]}?", f"What comes after {NUMBERS[a]}?"], f"{NUMBERS[a + 1]} comes after {NUMBERS[a]}."
        yield [f"Which number comes before {NUMBERS[a + 1]}?", f"What comes before {NUMBERS[a + 1]}?"], f"{NUMBERS[a]} comes before {NUMBERS[a + 1]}."
    for a in range(3, 13):
        yield [f"Count to {NUMBERS[a]}.", f"Can you count to {NUMBERS[a]}?", f"Please count up to {NUMBERS[a]}."], join(NUMBERS[1:a + 1]) + "."


def one_of(kind, word):
    """The word with its article, where words of its kind take one."""
    return word if kind in ("metal", "season", "colour", "drink") else an(word)


def lists(rng, count):
    """`Name three birds.` and `Which of these is a tree?`"""
    for _ in range(count):
        kind = rng.choice(sorted(KINDS))
        plural = {"fish": "fish", "piece of clothing": "pieces of clothing"}.get(kind, kind + "s")
        number = rng.choice((2, 3, 3, 4))
        names = rng.sample(KINDS[kind], number)
        yield [f"Name {NUMBERS[number]} {plural}.", f"Can you name {NUMBERS[number]} {plural}?", f"Tell me {NUMBERS[number]} {plural}.", f"List {NUMBERS[number]} {plural}, please."], f"{join(names)}."
        others = [word for other in sorted(KINDS) if other != kind for word in KINDS[other] if word not in KINDS[kind]]
        pick = rng.choice(KINDS[kind])
        three = rng.sample(others, 2) + [pick]
        rng.shuffle(three)
        yield [f"Which of these is {an(kind)}: {join(three, 'or')}?", f"{join(three, 'or')}: which one is {an(kind)}?"], f"{one_of(kind, pick)} is {an(kind)}."


def dialogues(rng):
    """Every fact in two or three wordings, a third of them joined into longer talks."""
    pairs = []
    for group, times in ((animals(), 3), (tables(), 3), (sums(), 2), (lists(rng, 260), 1)):
        for wordings, answer in group:
            for question in rng.sample(wordings, min(times, len(wordings))):
                frame = rng.choice(FRAMES) if question.endswith("?") else "{q}"
                if "tell" in frame and question.split()[0] in ("What", "Which", "Where", "How", "Who", "When", "In", "At", "Why"):
                    question = question[0].lower() + question[1:]
                pairs.append((say(rng, frame, q=question), say(rng, "{a}", a=answer)))
    rng.shuffle(pairs)
    rows = []
    while pairs:
        take = rng.choice((1, 1, 2, 3))
        rows.append(chat(*(text for pair in pairs[:take] for text in pair)))
        pairs = pairs[take:]
    return rows
