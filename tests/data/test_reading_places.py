"""Labels of where words stand: each letter of an answer in the visual token that shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fastvlm.batches import ReadingPlaces, TrainingBatch
from fastvlm.data.collate import Collator
from fastvlm.data.documents import DocumentBatches, LineBatches
from fastvlm.data.examples import Example
from fastvlm.data.reading_places import WrittenRow, WrittenTalk, reading_places, shown_strings
from fastvlm.data.synthetic.documents.drawing import Drawing, Text, character_places, characters, render
from fastvlm.data.synthetic.documents.fonts import faces_of
from fastvlm.messages import ImagePart, assistant, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.processing.tokenizer import train_byte_level_bpe
from fastvlm.recipes.document_settings import smoke
from fastvlm.training.tasks.grounding import GroundingHeads, reading_loss, watch
from fastvlm.training.tasks.instruct import Grounding, InstructTask, word_logits

COLLATOR = Collator(
    processor=ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=8, max_enlargement=1.0)),
    tokenizer=train_byte_level_bpe(
        ["What is the total? Name of Read it. 7.50"] * 9, vocabulary_size=320,
        special_tokens=("<|user|>", "<|assistant|>", "<|end|>"),
    ),
    template=TEMPLATES["compact"],
    max_positions=512,
)  # fmt: skip
FACE = faces_of("train")[0]
DRAWING = Drawing(
    256, 128, (255, 255, 255),
    (Text("Total", FACE, 16, 4, 30), Text("7.50", FACE, 16, 200, 30), Text("Name: Ann", FACE, 16, 4, 100)),
)  # fmt: skip
"""Two rows of four visual tokens."""


def labelled(*talks: WrittenTalk, drawing: Drawing = DRAWING) -> tuple[TrainingBatch, ReadingPlaces]:
    picture = render(drawing)
    turns = tuple((user(ImagePart(picture), talk.question), assistant(talk.answer)) for talk in talks)
    batch = COLLATOR([Example("a", (picture,), turns)])
    row = WrittenRow(shown_strings(drawing, COLLATOR.processor), talks)
    return batch, reading_places(batch, [row], COLLATOR.tokenizer)


def word_at(batch: TrainingBatch, position: int) -> str:
    return COLLATOR.tokenizer.decode([int(batch.token_ids[0, position])])


def tokens_of(shares: np.ndarray) -> list[int]:
    return [int(token) - 1 for token in np.flatnonzero(shares)]


def test_each_piece_of_an_answer_is_looked_for_where_it_stands() -> None:
    batch, places = labelled(
        WrittenTalk("What is the total?", "7.50", ("total",), is_read=True), WrittenTalk("Name?", "Ann", is_read=True)
    )
    written = [word_at(batch, int(position) + 1) for _, position in places.read]
    assert "".join(written) == "7.50Ann"
    for word, shares in zip(written, places.read_shares, strict=True):
        assert shares.sum() == pytest.approx(1)
        assert set(tokens_of(shares)) <= ({3} if word in "7.50" else {4, 5}), word
    across, down = places.read_spots.T
    assert (np.diff(across[:4]) > 0).all() and 0 <= across[0] <= 4, "the letters from left to right, from 200 px on"
    assert set(down[:4]) == {1} and set(down[4:]) == {1}, "above baselines 30 px and, from the second row of cells, 36"
    assert len(places.named) == 0, "the picture has it in another case"


def test_what_a_question_names_is_looked_for() -> None:
    batch, places = labelled(WrittenTalk("What is the Total of Name?", "yes", ("Name", "Total"), is_read=True))
    assert len(places.read) == 0, "yes is not written there"
    found = zip(places.named, places.named_shares, strict=True)
    ends = sorted((int(position), tokens_of(shares)) for (_, position), shares in found)
    text = "".join(word_at(batch, position) for position in range(ends[0][0] + 1) if not batch.is_visual[0, position])
    assert text.endswith("Total") and ends[0][1] == [0]
    assert ends[1][1] == [4]
    row, position, first, last = places.asked[0].tolist()
    assert (row, first, last) == (0, ends[1][0], ends[0][0]), "in the order in which they are named"
    assert batch.supervised[0, position + 1] and not batch.supervised[0, position]


def test_where_an_answer_begins_that_has_to_be_found_is_told_apart() -> None:
    batch, places = labelled(
        WrittenTalk("What is the Total?", "7.50", ("Total",), is_read=True),
        WrittenTalk("Name?", "Ann", is_read=True),
        WrittenTalk("Read it.", "Name: Ann", is_read=True, is_transcript=True),
    )
    first, other = np.flatnonzero(places.read_first)
    assert [word_at(batch, int(places.read[number, 1]) + 1)[0] for number in (first, other)] == ["7", "A"]
    assert places.asked[:4, :2].tolist() == places.read[first : first + 4].tolist(), "each letter knows what is asked"
    assert len(places.asked) == 5, "and so does the end"


def test_what_is_missing_is_looked_for_nowhere() -> None:
    talk = WrittenTalk("What is the Date of Name?", "It is not shown.", ("Date", "Name"))
    _, places = labelled(talk)
    assert [tokens_of(shares) for shares in places.named_shares] == [[4]], "it may be meant otherwise"
    _, places = labelled(replace(talk, is_missing=True))
    assert [tokens_of(shares) for shares in places.named_shares] == [[-1], [4]], "the first position, before all tokens"
    assert len(places.asked) == 1 and len(places.read) == 0


def test_a_transcript_is_read_string_by_string() -> None:
    text = "Total 7.50\nName: Ann"
    _, places = labelled(WrittenTalk("Read it.", text, is_read=True, is_transcript=True))
    tokens = [tokens_of(shares) for shares in places.read_shares]
    assert tokens[0] == [0] and [3] in tokens and tokens[-1][-1] in (4, 5)
    rows = [max(own) // 4 for own in tokens]
    assert rows == sorted(rows), "line by line"
    _, places = labelled(WrittenTalk("Read it.", text, is_read=True))
    assert len(places.read) == 0, "only what is a transcript"


def test_what_stands_there_by_chance_is_not_looked_for() -> None:
    """A part of a number or of a word, the answer of another question, a row without a picture."""
    batch, places = labelled(
        WrittenTalk("How many?", "50", is_read=True),
        WrittenTalk("What is it?", "7.50"),
        WrittenTalk("Read.", "otal", ("ame",), is_read=True),
        WrittenTalk("Is it named?", "7.50", ("me",)),
    )
    assert len(places.read) == len(places.named) == 0
    row = WrittenRow(talks=(WrittenTalk("How many?", "7.50", is_read=True),))
    nothing = reading_places(batch, [row], COLLATOR.tokenizer)
    assert len(nothing.read) == len(nothing.named) == 0


def test_of_equal_numbers_the_one_beside_what_is_named_counts() -> None:
    """Two things, each bought twice, once printed with a sign."""
    rows = (("Tea", "2", 30), ("Milk x3", "3.30", 60), ("Rice", "2", 100))
    marks = ((Text(name, FACE, 16, 4, y_px), Text(number, FACE, 16, 200, y_px)) for name, number, y_px in rows)
    drawing = replace(DRAWING, marks=tuple(mark for row in marks for mark in row))
    _, places = labelled(
        WrittenTalk("How many Tea?", "2", ("Tea",), is_read=True),
        WrittenTalk("How many Milk?", "3", ("Milk",), is_read=True),
        drawing=drawing,
    )
    tea, milk = map(tokens_of, places.read_shares)
    assert tea == [3] and milk in ([0], [1])
    assert (places.read_spots >= 0).all()
    _, places = labelled(WrittenTalk("How many?", "2", is_read=True), drawing=drawing)
    assert places.read_spots.tolist() == [[-1, -1]], "either of two"


def test_spaces_have_places_too() -> None:
    turned = replace(DRAWING, degrees=2.0)
    for drawing in (DRAWING, turned):
        places = character_places(drawing)
        assert [len(own) for own in places] == [len(mark.text) for mark in drawing.texts]
        named = np.concatenate(places)[[character != " " for mark in drawing.texts for character in mark.text]]
        assert np.allclose(named, characters(drawing).centers_px)


@pytest.mark.parametrize("kind", ["documents", "lines"])
def test_batches_know_the_places_of_what_they_ask(kind: str) -> None:
    collator = replace(COLLATOR, processor=ImageProcessor(ProcessingConfig(mode="fit", max_visual_tokens=64)))
    source = (
        LineBatches(collator=collator, num_steps=3, batch_size=4, canvases=((256, 128),))
        if kind == "lines"
        else DocumentBatches(
            collator=collator, num_steps=3, batch_size=4, questions_per_picture=8, outside_answer="?",
            no_picture_answer="!",
        )
    )  # fmt: skip
    num_read = num_supervised = 0
    for step in range(3):
        batch = source[step]
        places = batch.reading
        assert places is not None and len(places.read) > 10
        for (row, position), shares in zip(places.read, places.read_shares, strict=True):
            assert batch.supervised[row, position + 1] and shares[0] == 0 and shares.sum() == pytest.approx(1)
        for row, position in places.named:
            assert not batch.supervised[row, position] and not batch.is_visual[row, position]
        num_read += len(places.read)
        num_supervised += batch.supervised.sum()
    assert num_read > (0.8 if kind == "lines" else 0.3) * num_supervised


def test_the_loss_is_lowest_where_attention_is_as_wanted() -> None:
    recipe = smoke()
    torch.manual_seed(0)
    decoder = replace(recipe.decoder, vocabulary_size=COLLATOR.tokenizer.vocabulary_size)
    model = FastVLM(VLMConfig(vision=recipe.vision, decoder=decoder))
    heads = GroundingHeads(model.decoder, recipe.grounding)
    source = LineBatches(collator=COLLATOR, num_steps=1, batch_size=4, canvases=((256, 128),))
    batch = source[0]
    task = InstructTask(model, grounding=Grounding(heads, 0.5))
    with torch.no_grad():
        loss = task.loss(batch)
        visual = task._visual_tokens(batch, task._maps(batch))
        with watch(model.decoder) as inputs:
            word_logits(model, visual, batch)
        own = reading_loss(heads, model.decoder, inputs, batch)
    assert float(loss.total) == pytest.approx(float(loss.parts["words"] + 0.5 * own.total), rel=1e-4)
    assert set(own.parts) == {"point_named", "point_asked", "point_begun", "point_read", "know_spots"}
    assert float(own.parts["point_read"]) > 1
    assert float(own.parts["point_begun"]) == float(own.parts["point_asked"]) == 0, "lines are asked for as they are"
    assert batch.reading is not None
    optimizer = torch.optim.Adam([*model.parameters(), *heads.parameters()], 3e-3)
    for _ in range(12):
        optimizer.zero_grad()
        loss = task.loss(batch)
        loss.total.backward()
        optimizer.step()
    assert float(loss.parts["point_read"]) < 0.8 * float(own.parts["point_read"])
    assert float(loss.parts["know_spots"]) < 0.8 * float(own.parts["know_spots"])


def test_an_answer_learns_to_point_at_what_its_question_names() -> None:
    recipe = smoke()
    torch.manual_seed(0)
    decoder = replace(recipe.decoder, vocabulary_size=COLLATOR.tokenizer.vocabulary_size)
    model = FastVLM(VLMConfig(vision=recipe.vision, decoder=decoder))
    batch, places = labelled(
        WrittenTalk("What is the Total?", "7.50", ("Total",), is_read=True),
        WrittenTalk("Total of Name?", "It is not shown.", ("Total", "Name")),
    )
    batch = replace(batch, reading=places)
    task = InstructTask(model, grounding=Grounding(GroundingHeads(model.decoder, recipe.grounding), 0.5))
    optimizer = torch.optim.Adam(task.module.parameters(), 3e-3)
    found = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = task.loss(batch)
        loss.total.backward()
        optimizer.step()
        found.append({name: float(loss.parts[name]) for name in ("point_asked", "point_begun", "point_named")})
    for name, first in found[0].items():
        assert first > 1 and found[-1][name] < 0.7 * first, name
