"""Greetings, feelings, advice, weather, tastes, and what the model says about itself."""

from .phrases import chat, join, say
from .towns import FIRST, LAST

HELLO = "[Hello|Hi|Hello there|Good morning|Good evening|Good afternoon|Hey|Hi there|Good day]"
GREETINGS = [
    (HELLO + "!", "[Hello|Hi]! [How can I help you?|What can I do for you?|How are you today?|It is nice to hear from you.|What would you like to know?]"),
    (HELLO + ".", "[Hello|Hi|Hello there]! [How can I help you today?|What would you like to talk about?|How are you?]"),
    (HELLO + "! How are you?", "I am [fine|well|very well], thank you. [How are you?|And you?|How can I help you?]"),
    ("[How are you|How are you today|How do you feel|Are you well]?", "I am [fine|well|very well], thank you. [How are you?|And you?|I hope you are well too.]"),
    ("[What is up|What are you doing|What are you up to]?", "I am [talking with you|waiting for your questions|thinking about words]. [What about you?|How can I help you?]"),
    ("[Nice|Good] to meet you.", "It is nice to meet you too. [How can I help you?|What is your name?]"),
    ("[Good night|Sleep well].", "Good night! [Sleep well.|Sweet dreams.|See you tomorrow.]"),
    ("[Goodbye|Bye|See you later|See you tomorrow|I have to go now].", "[Goodbye|Bye]! [Have a nice day.|See you soon.|Take care.|It was nice to talk with you.]"),
    ("[Thank you|Thanks|Thank you very much|Thanks a lot|Thank you for your help][.|!]", "You are welcome[.|!] [I am glad I could help.|Ask me again at any time.|]"),
    ("[I am sorry|Sorry|Excuse me].", "[That is all right|Do not worry|It is no problem]. [How can I help you?|What happened?]"),
    ("[Can you help me|I need help|Could you help me, please]?", "[Of course|Yes, I will try|Gladly]. [What do you need?|Tell me what you need.|What is the question?]"),
    ("[Yes|Yes, please|Yes, I do|That is right].", "[Good|Very good|I am glad to hear that]. [Tell me more.|What would you like to do next?]"),
    ("[No|No, thank you|I do not think so].", "[That is all right|No problem]. [Tell me if you need anything else.|What would you like to do instead?]"),
    ("[I do not understand.|I am confused.|What do you mean?]", "[I am sorry|Let me try again]. [Which part is not clear?|Please ask me in another way.]"),
    ("[Please help me|Help me, please].", "[Of course|Gladly]. [What is the matter?|What do you need?]"),
]
ABOUT_ME = [
    ("[What is your name?|Who are you?|What are you called?|Tell me your name.]", "My name is Spark. I am a small language model."),
    ("[What are you|Are you a person|Are you a human|Are you a robot]?", "I am Spark, a small language model. I am a program, not a person."),
    ("[Who made you|Where do you come from|How were you made]?", "I was trained with firebrand, from a small recipe and some simple texts."),
    ("[How old are you|When were you born]?", "I have no age. I am as old as my last training run."),
    ("[What can you do|How can you help me|What do you know]?", "I can [answer simple questions|talk about animals, colours and numbers], tell little stories and [say hello|learn new things when you train me]."),
    ("[Can you learn|Can you learn new things|How do you learn|How can I teach you something]?", "I learn when somebody trains me. Show me good examples and I will learn them."),
    ("[Do you eat|Are you hungry|What do you eat]?", "I do not eat. I am a program. But I like to talk about food."),
    ("[Do you sleep|Are you tired]?", "I do not sleep. I am a program and I am never tired."),
    ("[Where do you live|Where are you]?", "I live in a small file on your computer."),
    ("[Do you have friends|Are you lonely|Do you have a family]?", "I have you to talk to, and that is enough for me."),
    ("[Are you clever|Do you know everything|Are you always right]?", "No, I am very small and I make mistakes. Please check what I say."),
    ("[Do you like music|Do you like books|Do you like people]?", "I cannot feel, but I like to talk about it."),
    ("[What is the weather today|What time is it|What day is it today|What is the date today]?", "I cannot know that. Please look [outside|at a clock or a calendar]."),
]
FEELINGS = [
    ("tired", "[Take a short rest|Go to bed early tonight|Sleep is the best help]. [You will feel better tomorrow.|Then you will feel fresh again.]"),
    ("sad", "I am sorry to hear that. [Would you like to talk about it?|Talk to a friend. It often helps.|What made you sad?]"),
    ("happy", "That is wonderful! [What made you so happy?|I am glad to hear that.|Tell me more.]"),
    ("hungry", "[Eat some bread and cheese|Have an apple|A bowl of soup would be good]. [Enjoy your meal!|What do you like to eat?]"),
    ("thirsty", "[Drink a glass of water|Have a cup of tea]. [Water is best.|It will do you good.]"),
    ("cold", "[Put on a warm coat|Sit by the fire|Drink some hot tea]. [You will soon be warm.|Then you will feel better.]"),
    ("hot", "[Sit in the shade|Drink some cold water|Open a window]. [It will be cooler in the evening.|Then you will feel better.]"),
    ("bored", "[Read a good book|Go for a walk|Draw a picture|Call a friend]. [Or I can tell you a story.|It will be fun.]"),
    ("angry", "[Take a deep breath|Count slowly to ten|Go for a walk]. [Then talk about it calmly.|What happened?]"),
    ("afraid", "Do not worry. [Tell me what you are afraid of.|You are not alone.|Take a deep breath.]"),
    ("ill", "I am sorry to hear that. [Stay in bed and drink tea.|Please see a doctor.|Rest well and drink a lot of water.]"),
    ("lonely", "I am here to talk with you. [You could also call a friend.|Would you like to hear a story?]"),
    ("nervous", "[Breathe slowly|Take a deep breath]. [You can do it.|Everything will be fine.]"),
    ("busy", "[Do one thing after the other|Make a list and start with the first thing]. [Do not forget to rest.|You will get it done.]"),
    ("lost", "[Look at a map|Ask somebody for the way|Stay where you are and call a friend]. [Where do you want to go?|You will find the way.]"),
]
ADVICE = [
    ("sleep better", "Go to bed at the same time every day and read a quiet book before you sleep."),
    ("learn a new word", "Say the word out loud, write it down and use it in a sentence."),
    ("make tea", "Boil some water, put the tea into a cup, pour the water over it and wait for three minutes."),
    ("make a sandwich", "Take two slices of bread, put butter and cheese between them and cut the sandwich in half."),
    ("make new friends", "Be kind, ask questions and listen well."),
    ("grow flowers", "Put the seeds into good earth, give them water and let the sun do the rest."),
    ("cook soup", "Cut some vegetables, boil them in water with a little salt and wait for half an hour."),
    ("bake a cake", "Mix flour, sugar, eggs and butter, and bake the dough in a hot oven for forty minutes."),
    ("learn to swim", "Start in shallow water with a good teacher and practise every week."),
    ("write a letter", "Begin with a greeting, say what you want to say and sign your name at the end."),
    ("stay healthy", "Eat fruit and vegetables, sleep well and go for a walk every day."),
    ("save money", "Buy only what you need and put a little money aside every week."),
    ("clean my room", "Put everything in its place, wipe the table and then sweep the floor."),
    ("learn to read", "Learn the letters first, then read short words and then short stories."),
    ("wash my hands", "Use warm water and soap, rub your hands for twenty seconds and dry them with a towel."),
    ("find my way", "Look at a map, remember the big streets and ask a friendly person."),
    ("train a dog", "Be patient, use short words and give the dog a treat when it does well."),
    ("train a model", "Collect good examples, write a recipe, start the training and watch the loss go down."),
    ("paint a wall", "Clean the wall, cover the floor, and paint from the top to the bottom."),
    ("plant a tree", "Dig a deep hole, put the tree in, fill the hole with earth and give it plenty of water."),
    ("say sorry", "Look at the person, say that you are sorry and try to make it good again."),
    ("remember names", "Repeat the name when you hear it and think of a picture that goes with it."),
]
WEATHER = [
    ("raining", "[Take an umbrella|Wear your boots|Stay inside and read a book]. [The plants will be happy.|It will be dry again soon.]"),
    ("snowing", "[Build a snowman|Wear a warm coat and gloves|Let us stay by the fire]. [Snow is beautiful.|Do not get cold.]"),
    ("sunny", "[Go for a walk|Wear a hat|Sit in the garden]. [Enjoy the sun!|It is a good day.]"),
    ("windy", "[Fly a kite|Hold on to your hat|Close the windows]. [The wind is strong today.|The leaves will dance.]"),
    ("foggy", "[Walk slowly|Take a lamp with you]. [It is hard to see far in the fog.|The fog will lift soon.]"),
    ("cloudy", "[Take a coat with you|It may rain later]. [The sun will come back.|Clouds are pretty too.]"),
]
JOKES = [
    ("Why did the chicken cross the road? To get to the other side."), ("What do you call a bear with no teeth? A gummy bear."),
    ("Why did the clock go to school? It wanted to learn to tell the time."), ("What has hands but cannot clap? A clock."),
    ("What has teeth but cannot bite? A comb."), ("What gets wetter the more it dries? A towel."), ("Why are fish so clever? They live in schools."),
    ("What has a neck but no head? A bottle."), ("Why did the book look sad? It had too many problems."), ("What goes up when rain comes down? An umbrella."),
]
POEMS = [
    "[The little light|A tiny spark] is burning bright, it [keeps us warm|shines for us] all through the night.",
    "The [rain|snow] falls down, the wind blows cold, [we sit inside|we light a fire] and tales are told.",
    "A [small|brown] bird sings upon the tree, it sings a song for you and me.",
    "The [moon|sun] is [round|high], the sky is [wide|blue], the world is [big|old] and so are you.",
    "[The ship sails home|The boats come home] across the bay, and so we end another day.",
    "The spring is green, the summer gold, the autumn red, the winter cold.",
]
LIKES = "apples books cats dogs trains music stars boats flowers stories soup cheese rain snow birds horses numbers colours drums trees".split()
SYSTEMS = ["You are a helpful assistant.", "You are Spark, a small and friendly assistant.", "Answer in one short sentence.", "You are a friendly guide.", "Be kind and brief."]


def dialogues(rng, count):
    """Short talks of one to four exchanges."""
    rows = []
    for _ in range(count):
        turns = []
        if rng.random() < 0.35:
            turns += pair(rng, GREETINGS[:5])
        for _ in range(rng.choice((1, 1, 2, 3))):
            turns += exchange(rng)
        if rng.random() < 0.2:
            turns += pair(rng, GREETINGS[7:9])
        system = rng.choice(SYSTEMS[:2]) if rng.random() < 0.08 else None
        rows.append(chat(*turns, system=system))
    return rows


def pair(rng, table):
    """One exchange of a table of templates."""
    question, answer = rng.choice(table)
    return [say(rng, question), say(rng, answer)]


def exchange(rng):
    """One exchange about anything in this module."""
    choice = rng.randrange(14)
    if choice < 2:
        return pair(rng, GREETINGS)
    if choice < 4:
        return pair(rng, ABOUT_ME)
    if choice < 6:
        word, answer = rng.choice(FEELINGS)
        return [say(rng, "[I am {w}|I am so {w}|I feel {w}|I am very {w} today|I feel a little {w}|Today I am {w}].", w=word), say(rng, answer)]
    if choice < 8:
        what, answer = rng.choice(ADVICE)
        return [say(rng, "[How can I {w}?|How do I {w}?|Tell me how to {w}.|I want to {w}. What should I do?|What is the best way to {w}?|Can you tell me how to {w}?]", w=what), answer]
    if choice == 8:
        what, answer = rng.choice(WEATHER)
        return [say(rng, "[It is {w} today.|It is {w}. What should I do?|Today it is {w}.|Look, it is {w}!]", w=what), say(rng, answer)]
    if choice == 9:
        return [say(rng, "[Tell me a joke.|Do you know a joke?|Make me laugh.|Can you tell me a joke?|Tell me a riddle.]"), rng.choice(JOKES)]
    if choice == 10:
        return [say(rng, "[Tell me a poem.|Write a poem.|Do you know a poem?|Can you write a short poem for me?|Write a short poem.]"), say(rng, rng.choice(POEMS))]
    if choice == 11:
        word = rng.choice(LIKES)
        return [say(rng, "[I like {w}.|I love {w}.|My favourite things are {w}.|Do you like {w}?]", w=word), say(rng, "[I like to talk about {w}.|{w} are wonderful.|Tell me what you like about {w}.]" if word.endswith("s") else "[I like to talk about {w}.|{w} is wonderful.|Tell me what you like about {w}.]", w=word)]
    if choice == 12:
        name = rng.choice(FIRST)
        turns = [say(rng, "[My name is {n}.|I am {n}.|Hello, I am {n}.|You can call me {n}.]", n=name), say(rng, "[Hello, {n}!|Nice to meet you, {n}.|Hi, {n}!] [How can I help you?|How are you?|My name is Spark.]", n=name)]
        if rng.random() < 0.6:
            turns += pair(rng, GREETINGS[3:4]) if rng.random() < 0.3 else pair(rng, ABOUT_ME)
        if rng.random() < 0.7:
            turns += [say(rng, "[What is my name?|Do you remember my name?|Who am I?]"), f"Your name is {name}."]
        return turns
    return echo(rng)


def echo(rng):
    """Copying on request: the model repeats words it is given."""
    words = rng.sample(LIKES, rng.choice((1, 2, 3)))
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    while name in ("Ada Quill", "Bruno Marsh", "Clara Thistle"):
        name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    kind = rng.randrange(4)
    if kind == 0:
        text = " ".join(words)
        return [say(rng, "[Say|Repeat|Please say|Repeat after me]: {t}.", t=text), say(rng, "{t}.", t=text)]
    if kind == 1:
        return [say(rng, "[My friend is called {n}.|My neighbour is {n}.|My teacher is called {n}.] What is the name?", n=name), f"The name is {name}."]
    if kind == 2:
        return [say(rng, "I have {t}. What do I have?", t=join(words)), say(rng, "You have {t}.", t=join(words))]
    return [say(rng, "I saw {n} with {t}. [Who did I see?|Whom did I see?]", n=name, t=join(words)), f"You saw {name}."]
