"""What people claim about a picture: hand-written statements, answered with yes or no, and what they are wrapped in.

Slots as in `phrasings.py`, and {num_things} `two red stars`, {number} `two`, {are} `is` or `are`. The sentences
begin in lower case and have no full stop. The rules for held-out ones are those of `phrasings.py`.
"""

from __future__ import annotations

from fastvlm.data.synthetic.phrasing_set import PhrasingSet

STATEMENTS: dict[str, PhrasingSet] = {
    "exist": PhrasingSet(
        train=(
            "there is {a}{where}",
            "there is at least one {thing}{where}",
            "the picture shows {a}",
            "the image contains {a}",
            "there are some {things}{where}",
            "I can see {a}",
            "{a} is there",
            "{a} is visible{where}",
            "{a} is drawn here",
            "you can find {a}{where}",
            "at least one {thing} appears{where}",
            "among the objects is {a}",
            "whoever looks finds {a}",
        ),
        held_out=(
            "{a} can be seen{where}",
            "one finds {a} here",
        ),
    ),
    "none": PhrasingSet(
        train=(
            "there is no {thing}{where}",
            "there are no {things}{where}",
            "the picture does not contain {a}",
            "the image has no {things}",
            "not a single {thing} is there",
            "no {things} are to be seen{where}",
            "there are not any {things}{where}",
            "you cannot find {a}{where}",
            "{a} is nowhere to be found",
            "{a} is missing{where}",
            "{things} do not appear{where}",
            "not one of the objects is {a}",
        ),
        held_out=(
            "one cannot see any {things}{where}",
            "{things} are missing here",
        ),
    ),
    "count": PhrasingSet(
        train=(
            "there {are} exactly {num_things}{where}",
            "there {are} {num_things}{where}",
            "the picture shows exactly {num_things}",
            "the image contains {num_things}",
            "the number of {things} is {number}",
            "exactly {num_things} {are} in the picture",
            "I count {num_things}",
            "there {are} {num_things} in total",
            "the total of {things} is {number}",
            "the count of {things} is {number}",
            "counting the {things} gives {number}",
            "when you count the {things}, you get {number}",
            "you can see exactly {num_things}{where}",
            "{num_things} {are} drawn{where}",
        ),
        held_out=(
            "one can count {num_things} here",
            "{num_things} can be seen, no more and no fewer",
        ),
    ),
    "at_least": PhrasingSet(
        train=(
            "there {are} at least {num_things}{where}",
            "the picture shows at least {num_things}",
            "at least {num_things} {are} visible",
            "there {are} {number} or more {things}",
            "the number of {things} is {number} or more",
            "you can see at least {num_things}{where}",
            "the count of {things} is at least {number}",
            "there {are} not fewer than {num_things}",
            "there {are} {num_things}, if not more",
            "{num_things} or more {are} there",
            "the number of {things} is not below {number}",
        ),
        held_out=(
            "no fewer than {num_things} {are} here",
            "one finds at least {num_things}{where}",
        ),
    ),
    "at_most": PhrasingSet(
        train=(
            "there {are} at most {num_things}{where}",
            "the picture shows at most {num_things}",
            "the number of {things} is at most {number}",
            "there {are} no more than {num_things}",
            "you can see at most {num_things}{where}",
            "at most {num_things} {are} visible",
            "there {are} not more than {num_things}",
            "the picture has {num_things} or fewer",
            "the number of {things} is {number} or less",
            "the number of {things} does not exceed {number}",
            "the count of {things} is not above {number}",
        ),
        held_out=("one finds no more than {num_things}{where}",),
    ),
    "relation": PhrasingSet(
        train=(
            "{the} is {rel} {b}",
            "{the} lies {rel} {b}",
            "{the} is {rel} {b}{where}",
            "you can see {the} {rel} {b}",
            "{the} can be found {rel} {b}",
            "{the} is placed {rel} {b}",
            "{the} was drawn {rel} {b}",
            "{the} sits {rel} {b}{where}",
            "{the} appears {rel} {b}",
            "you find {the} {rel} {b}",
            "{rel} {b} is {the}",
            "{rel} {b} you can see {the}",
            "it is {rel} {b} that {the} lies",
        ),
        held_out=(
            "{the} has been placed {rel} {b}",
            "as for {the}, it is {rel} {b}",
        ),
    ),
    "more": PhrasingSet(
        train=(
            "there are more {things} than {others}{where}",
            "the picture shows more {things} than {others}",
            "there are fewer {others} than {things}{where}",
            "the {things} outnumber the {others}",
            "the number of {things} exceeds that of {others}",
            "the number of {things} is greater than the number of {others}",
            "you can see more {things} than {others}",
            "{things} are more numerous than {others}",
            "{others} are less numerous than {things}",
            "the {others} are fewer than the {things}",
            "the {others} are outnumbered by the {things}",
            "compared with {others}, there are more {things}",
        ),
        held_out=("one can count more {things} than {others}",),
    ),
    "color": PhrasingSet(
        train=(
            "{the} is {color}",
            "{the} is {color}{where}",
            "{the} has the colour {color}",
            "the colour of {the} is {color}",
            "you can see that {the} is {color}",
            "{the} is coloured {color}",
            "{the} is drawn in {color}",
            "{the} was painted {color}",
            "{the} is {a_color} one",
            "{the} is {color} in colour",
            "{color} has been used for {the}",
            "if you look at {the}, you see {color}",
            "whoever looks at {the} sees {color}",
        ),
        held_out=("{color} is the colour of {the}",),
    ),
    "all": PhrasingSet(
        train=(
            "all {things} are {color}{where}",
            "all the {things} are {color}",
            "every {thing} is {color}{where}",
            "each {thing} is {color}",
            "the {things} are all {color}",
            "all of the {things} are {color}",
            "each of the {things} is {color}",
            "the {things} share the colour {color}",
            "the colour of all {things} is {color}",
            "without exception, the {things} are {color}",
            "there is not one {thing} of another colour than {color}",
            "not one {thing} has a colour other than {color}",
        ),
        held_out=(
            "whichever {thing} one looks at, it is {color}",
            "no {thing} has another colour than {color}",
        ),
    ),
}
"""Statements, answered with yes or no."""

STATEMENT_FRAMES = PhrasingSet(
    train=(
        "{S}.",
        "Is it true that {s}?",
        "True or false: {s}.",
        "Yes or no: {s}.",
        "Is it correct that {s}?",
        "{S}. Is that true?",
        "{S}. True or false?",
        "Is the statement true: {s}?",
        "{S}. Right or wrong?",
        "Is this right: {s}?",
        "{S}, right?",
        "{S}: yes or no?",
        "{S}. Is that so?",
        "{S}. Do you agree?",
        "Please check whether {s}.",
        "I claim that {s}. Am I right?",
        "Does it hold that {s}?",
    ),
    held_out=(
        "Would you agree that {s}?",
        "Check this claim: {s}.",
        "{S}. Would you say so?",
    ),
)
"""What a statement is wrapped in: nothing, or a request to judge it."""
