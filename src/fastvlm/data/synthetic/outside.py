"""Questions that the scenes cannot answer, and the one sentence that says so.

A small grammar: templates with slots that are filled from word lists. A part of the templates and of the words is held
out, for judging only.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

OUTSIDE_ANSWER = (
    "I can't tell. I know simple scenes of coloured shapes: what there is, how many, which colour, size and place."
)
"""The answer to every question outside the domain."""


@dataclass(frozen=True)
class WordList:
    """Words of one sort: those to learn from, and those that only judge."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def _words(train: str, held_out: str) -> WordList:
    return WordList(tuple(train.split("|")), tuple(held_out.split("|")))


WORDS: dict[str, WordList] = {
    "country": _words(
        "France|Germany|Italy|Spain|Japan|China|India|Brazil|Canada|Mexico|Egypt|Kenya|Norway|Sweden|Poland|Portugal"
        "|Greece|Turkey|Peru|Chile|Australia|Ireland|Scotland|England|the United States|Russia|Ukraine|Austria|Finland"
        "|Denmark|Belgium|Thailand|Vietnam|Nigeria|Morocco|Argentina|Colombia|Iran|Iraq|Israel|Korea|Cuba|Nepal",
        "the Netherlands|Switzerland|Indonesia|South Africa|New Zealand|Hungary|Iceland|Pakistan|Ethiopia|Malaysia",
    ),
    "city": _words(
        "Paris|London|Berlin|Rome|Madrid|Tokyo|New York|Moscow|Cairo|Vienna|Oslo|Dublin|Boston|Chicago|Sydney|Lisbon",
        "Amsterdam|Zurich|Toronto|Prague|Istanbul|Mumbai",
    ),
    "animal": _words(
        "dog|cat|horse|cow|bird|fish|sheep|pig|lion|tiger|bear|mouse|rabbit|duck|elephant|monkey|snake|chicken|goat|wolf",
        "fox|frog|giraffe|zebra|penguin|owl|donkey|whale",
    ),
    "person": _words(
        "man|woman|child|boy|girl|baby|person|player|driver|teacher|doctor|old man|young woman|policeman|soldier|bride",
        "lady|gentleman|student|nurse|chef|singer|grandmother",
    ),
    "thing": _words(
        "car|bus|truck|bicycle|train|plane|boat|house|tree|flower|chair|table|phone|laptop|book|bottle|cup|plate|bag"
        "|umbrella|clock|door|window|bridge|road|mountain|river|beach|bed|lamp|shirt|hat|shoe|pizza|cake|apple|banana"
        "|sandwich|key|camera|television|guitar|sofa|sign|receipt|newspaper|mirror|knife|spoon|kite|skateboard",
        "motorcycle|helicopter|castle|bench|piano|watch|suitcase|candle|carrot|bread|fridge|tent|fence|tower block|tie",
    ),
    "famous": _words(
        "Einstein|Napoleon|Shakespeare|Mozart|Cleopatra|Picasso|Newton|Darwin|Columbus|Beethoven|Lincoln|Gandhi",
        "Galileo|Churchill|Van Gogh|Marie Curie|Aristotle",
    ),
    "topic": _words(
        "love|physics|football|history|politics|music|cooking|money|school|war|the sea|winter|friendship|computers"
        "|the moon|democracy|gardening|philosophy|chess|time travel",
        "religion|tennis|the stock market|dinosaurs|happiness|economics|poetry",
    ),
    "language": _words("French|German|Spanish|Latin|Chinese|Japanese|Italian|Arabic", "Russian|Dutch|Greek|Korean"),
    "code": _words("Python|Java|Rust|C++|JavaScript|SQL|Haskell|Go", "Ruby|Fortran|PHP|Swift"),
    "field": _words(
        "total|date|address|phone number|price|name|title|invoice number|tax|company name|serial number|licence plate",
        "discount|postcode|customer number|due date|signature",
    ),
    "activity": _words(
        "eating|running|smiling|sleeping|reading|talking|cooking|dancing|swimming|playing|working|looking at|wearing",
        "drinking|singing|jumping|writing|shouting",
    ),
}
"""Word lists by slot name."""

TEMPLATES_TRAIN: tuple[str, ...] = (
    "What is the capital of {country}?",
    "Where is {country}?",
    "How many people live in {country}?",
    "How many people live in {city}?",
    "Who is the president of {country}?",
    "What is the weather like in {city}?",
    "How far is it from {city} to {city}?",
    "What language do they speak in {country}?",
    "Is there a {animal} in the picture?",
    "Is there a {thing} in the image?",
    "Is there a {person} in the picture?",
    "Are there any {animal}s?",
    "Are there any {thing}s in the image?",
    "What breed is the {animal}?",
    "What colour is the {animal}?",
    "What colour is the {thing}?",
    "What colour is the {person}'s shirt?",
    "How many {animal}s are there?",
    "How many {thing}s are in the picture?",
    "How many people are in the picture?",
    "Where is the {animal}?",
    "Where is the {thing}?",
    "What is the {person} doing?",
    "What is the {animal} doing?",
    "Is the {person} {activity}?",
    "Who is {activity}?",
    "How old is the {person}?",
    "Who is the {person}?",
    "What is the {person}'s name?",
    "What is the {person} wearing?",
    "What does the {person} feel?",
    "Does the {person} look happy?",
    "What is to the left of the {thing}?",
    "Is the {thing} left of the {animal}?",
    "What brand is the {thing}?",
    "How much does the {thing} cost?",
    "What is the {thing} made of?",
    "What time is it?",
    "What time does the clock show?",
    "What day is it today?",
    "What is the {field}?",
    "What is the {field} on the receipt?",
    "Read the text in the picture.",
    "What does the sign say?",
    "What does the text say?",
    "Is there any text?",
    "Which word is written at the top?",
    "What is written on the {thing}?",
    "Who was {famous}?",
    "When was {famous} born?",
    "What did {famous} do?",
    "Tell me about {topic}.",
    "Tell me a joke about {topic}.",
    "Write a poem about {topic}.",
    "Write a story about the {animal}.",
    "Explain {topic} to me.",
    "What do you think about {topic}?",
    "What is {topic}?",
    "Translate this into {language}.",
    "How do you say {animal} in {language}?",
    "Write a {code} program.",
    "Write a function in {code}.",
    "What is wrong with this {code} code?",
    "What is {number} plus {number}?",
    "What is {number} times {number}?",
    "Solve this equation.",
    "How are you?",
    "How are you feeling today?",
    "Who are you?",
    "What is your name?",
    "Who made you?",
    "Are you a human?",
    "Do you like {topic}?",
    "What is your favourite {thing}?",
    "Was this photo taken outdoors?",
    "Was this photo taken in {city}?",
    "Where was this photo taken?",
    "Is it day or night?",
    "Is it raining?",
    "What season is it?",
    "What is the mood of the picture?",
    "Who painted this picture?",
    "Which team is winning?",
    "What sport is this?",
    "What kind of {animal} is this?",
    "What kind of {thing} is this?",
    "Is the {thing} expensive?",
    "Can I eat this?",
    "Is this {thing} safe?",
    "What happens next?",
    "Why is the {person} {activity}?",
    "Which country is this flag from?",
    "What is the highest value in the chart?",
    "Summarise the document.",
    "Give me a recipe for {thing}s.",
    "Can you see a {thing}?",
    "Do you see a {animal} here?",
    "Do you notice a {person} in the picture?",
    "Is a {animal} visible?",
    "Could there be a {thing} in the picture?",
    "Is there {famous} in this picture?",
    "Any {animal}s in the picture?",
    "Are all the {animal}s {activity}?",
    "Are there more {animal}s than {thing}s?",
    "Which are more numerous, {animal}s or {thing}s?",
    "How many {animal}s do you see?",
    "Count the {animal}s.",
    "Number of {thing}s?",
    "Name the colour of the {thing}.",
    "Tell me the colour of the {animal}.",
    "Look at the {thing}. What is its colour?",
    "The {thing}: what colour?",
    "Which shape does the {thing} have?",
    "State the size of the {animal}.",
    "Is the {animal} larger than the {thing}?",
    "Tell me where the {animal} is.",
    "Where would you locate {city}?",
    "On which side of the {thing} is the {animal}?",
    "What lies above the {thing}?",
    "Describe the {animal}.",
    "Is it true that the {person} is {activity}?",
    "How much does the {animal} weigh?",
    "Is the {thing} heavy?",
    "Is the {animal} hungry or tired?",
    "Do you recognise {famous}?",
    "Does anybody know {famous}?",
    "What year was {famous} born in?",
    "Where is {famous} buried?",
    "Who is going to win?",
    "Does it ever rain in {city}?",
    "Where can I buy a {thing}?",
    "Do they sell {thing}s in {city}?",
    "I would like to travel to {country}. When should I go?",
    "What will the weather be tomorrow in {city}?",
    "What street is this in {city}?",
    "Do you know whose {thing} that is?",
    "Please calculate {number} times {number}.",
    "What is {number} minus {number}?",
    "What do I get if I add {number} to {number}?",
    "Can you recommend a film about {topic}?",
    "Sing a song about {topic}.",
    "Could one compose music about {topic}?",
    "Please say hello to the {person}.",
    "My {thing} is broken: how do I fix it?",
    "What has happened in {country} since the war?",
    "Hello!",
    "Thank you.",
    "Good morning",
)
"""Templates to learn from."""

TEMPLATES_HELD_OUT: tuple[str, ...] = (
    "Name the capital of {country}.",
    "In which year was {famous} born?",
    "Can you recognise the {person}?",
    "Can anybody find a {animal}?",
    "Would a {thing} be here?",
    "Has the {person} got a {thing}?",
    "Could you read the {field} to me?",
    "Which {thing} should I buy?",
    "How heavy is the {animal}?",
    "Please explain {topic}.",
    "Compose a song about {topic}.",
    "Say hello in {language}.",
    "Fix this {code} code.",
    "Should I travel to {country}?",
    "Will it rain in {city} tomorrow?",
    "Did the {person} win?",
    "Does the {animal} look hungry?",
    "Add {number} and {number}.",
    "On which street is the {thing}?",
    "Have you ever been to {city}?",
    "Whose {thing} is this?",
    "Is anybody {activity}?",
    "Calculate {number} minus {number}.",
    "Recommend a book about {topic}.",
    "Since when has {country} been a country?",
    "Where was {famous} buried?",
    "For how much would the {thing} sell?",
)
"""Templates that only judge; none begins with the first three words of a training template."""

_SLOT = re.compile(r"\{(\w+)\}")
_S_AFTER_A_HISS = re.compile(r"(?<=ch|sh|us)s\b")
_IRREGULAR_PLURALS = (
    ("sheeps", "sheep"), ("mouses", "mice"), ("fishes", "fish"), ("wolfs", "wolves"), ("knifes", "knives"),
)  # fmt: skip


def outside_question(rng: random.Random, *, phrasing: Literal["train", "held_out"]) -> tuple[str, int]:
    """Draw a question outside the domain, with the number of its template; held-out templates have held-out words."""
    templates = _templates(phrasing)
    index = rng.randrange(len(templates))
    return _filled(templates[index], rng, phrasing=phrasing), index


_FAR_SLOTS = {"famous", "topic", "country", "city", "language", "code"}


def unrelated_question(rng: random.Random, *, phrasing: Literal["train", "held_out"]) -> tuple[str, int]:
    """The same, of those questions alone that no picture answers, whatever it shows: a document may name anything."""
    templates = _templates(phrasing)
    far = [number for number, template in enumerate(templates) if _FAR_SLOTS.intersection(_SLOT.findall(template))]
    index = rng.choice(far)
    return _filled(templates[index], rng, phrasing=phrasing), index


def _templates(phrasing: Literal["train", "held_out"]) -> tuple[str, ...]:
    return TEMPLATES_TRAIN if phrasing == "train" else TEMPLATES_HELD_OUT


def _filled(template: str, rng: random.Random, *, phrasing: Literal["train", "held_out"]) -> str:
    def word(match: re.Match[str]) -> str:
        if match[1] == "number":
            return str(rng.randint(2, 99))
        words = WORDS[match[1]]
        return rng.choice(words.train if phrasing == "train" else words.held_out)

    text = _SLOT.sub(word, template)
    text = _S_AFTER_A_HISS.sub("es", text)
    for wrong, right in _IRREGULAR_PLURALS:
        text = text.replace(wrong, right)
    return re.sub(r"\ba (?=[aeiouAEIOU])", "an ", text)
