"""What people claim about a picture: hand-written statements, answered with yes or no, and what they are wrapped in.

Slots as in `phrasings.py`, and {num_things} `two red stars`, {number} `two`, {are} `is` or `are`. The sentences
begin in lower case and have no full stop.
"""

from __future__ import annotations

from fastvlm.data.synthetic.phrasings import PhrasingSet

STATEMENTS: dict[str, PhrasingSet] = {
    "exist": PhrasingSet(
        train=(
            "there is {a}{where}",
            "there is at least one {thing}{where}",
            "the picture shows {a}",
            "the image contains {a}",
            "there are some {things}{where}",
            "I can see {a}",
        ),
        held_out=("{a} can be seen{where}", "one finds {a} here"),
    ),
    "none": PhrasingSet(
        train=(
            "there is no {thing}{where}",
            "there are no {things}{where}",
            "the picture does not contain {a}",
            "the image has no {things}",
            "not a single {thing} is there",
        ),
        held_out=("one cannot see any {things}{where}", "{things} are missing here"),
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
        ),
        held_out=("one can count {num_things} here", "{num_things} can be seen, no more and no fewer"),
    ),
    "at_least": PhrasingSet(
        train=(
            "there {are} at least {num_things}{where}",
            "the picture shows at least {num_things}",
            "at least {num_things} {are} visible",
            "there {are} {number} or more {things}",
            "the number of {things} is {number} or more",
        ),
        held_out=("no fewer than {num_things} {are} here", "one finds at least {num_things}{where}"),
    ),
    "at_most": PhrasingSet(
        train=(
            "there {are} at most {num_things}{where}",
            "the picture shows at most {num_things}",
            "the number of {things} is at most {number}",
            "there {are} no more than {num_things}",
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
        ),
        held_out=("{the} has been placed {rel} {b}", "as for {the}, it is {rel} {b}"),
    ),
    "more": PhrasingSet(
        train=(
            "there are more {things} than {others}{where}",
            "the picture shows more {things} than {others}",
            "there are fewer {others} than {things}{where}",
            "the {things} outnumber the {others}",
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
        ),
        held_out=("one sees only {color} {things}", "no {thing} has another colour than {color}"),
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
    ),
    held_out=(
        "{S}.",
        "Would you agree that {s}?",
        "Check this claim: {s}.",
        "{S}. Would you say so?",
    ),
)
"""What a statement is wrapped in: nothing, or a request to judge it."""
