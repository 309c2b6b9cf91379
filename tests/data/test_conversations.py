"""Conversations of every format that people bring become the same messages, and errors name the sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvlm.data.conversation_files import read_conversations
from fastvlm.data.conversations import conversation_from
from fastvlm.errors import DataError
from fastvlm.messages import ImagePart, TextPart

QUESTION, ANSWER = "What is it?", "A cat."


def shown(record: dict[str, Any], **options: Any) -> list[list[str]]:
    """The parts of each message, images as their sources in brackets."""
    conversation = conversation_from(record, sample_id="s", **options)
    return [
        [part.text if isinstance(part, TextPart) else f"[{part.source}]" for part in message.content]
        for message in conversation.messages
    ]


def llava(question: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": ANSWER}]
    return {"id": "a", "conversations": turns, **more}


@pytest.mark.parametrize(
    ("record", "first"),
    [
        (llava(f"<image>\n{QUESTION}", image="x.jpg"), ["[x.jpg]", QUESTION]),
        (llava(f"{QUESTION}\n<image>", image="x.jpg"), [QUESTION, "[x.jpg]"]),
        (llava(QUESTION, image="x.jpg"), ["[x.jpg]", QUESTION]),
        (llava("<image><image>\nBoth?", image=["x.jpg", "y.jpg"]), ["[x.jpg]", "[y.jpg]", "Both?"]),
        (llava("One <image> and two <image>", images=["x", "y"]), ["One ", "[x]", " and two ", "[y]"]),
        (llava(QUESTION), [QUESTION]),
        ({"messages": [{"role": "user", "content": f"<image>{QUESTION}"}, {"role": "assistant", "content": ANSWER}],
          "images": ["x.jpg"]}, ["[x.jpg]", QUESTION]),
        ({"messages": [{"role": "user", "content": [{"type": "image", "text": None},
                                                    {"type": "text", "text": QUESTION}]},
                       {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}],
          "images": ["x.jpg"]}, ["[x.jpg]", QUESTION]),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x.jpg"}},
                                                    {"type": "text", "text": QUESTION}]},
                       {"role": "assistant", "content": ANSWER}]}, ["[/x.jpg]", QUESTION]),
        ({"texts": [{"user": QUESTION, "assistant": ANSWER}], "images": ["x.jpg"]}, ["[x.jpg]", QUESTION]),
    ],
)  # fmt: skip
def test_every_format_is_the_same_conversation(record: dict[str, Any], first: list[str]) -> None:
    assert shown(record) == [first, [ANSWER]]


def test_paths_are_below_the_folder_and_other_sources_stay(tmp_path: Path) -> None:
    assert shown(llava(QUESTION, image="in/x.jpg"), image_folder=tmp_path)[0][0] == f"[{tmp_path}/in/x.jpg]"
    assert shown(llava(QUESTION, image="/abs/x.jpg"), image_folder=tmp_path)[0][0] == "[/abs/x.jpg]"
    assert shown(llava(QUESTION, image="data:image/png;base64,AA"), image_folder=tmp_path)[0][0].startswith("[data:")
    assert shown(llava(QUESTION, image={"bytes": b"png", "path": "x.png"}))[0][0] == "[b'png']"
    pixels = np.zeros((4, 4, 3), np.uint8)
    source = conversation_from(llava(QUESTION, image=pixels), sample_id="s").images[0].source
    assert source is pixels


def test_pitfall_b8_images_of_later_turns_stay_there() -> None:
    turns = [
        {"from": "human", "value": "<image>\nFirst?"}, {"from": "gpt", "value": "one"},
        {"from": "human", "value": "And <image>?"}, {"from": "gpt", "value": "two"},
    ]  # fmt: skip
    record = {"conversations": turns, "image": ["x", "y"]}
    assert shown(record) == [["[x]", "First?"], ["one"], ["And ", "[y]", "?"], ["two"]]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (llava("<image> <image>", image="x.jpg"), "2 for 1"),
        (llava(QUESTION, image="x.jpg", id=7) | {"conversations": [{"from": "cat", "value": "m"}]}, "sample 7"),
        (llava("<image>", image=""), "empty one"),
        ({"id": "a"}, "got id"),
        (llava("<image>\nWhat is it?"), "1 for 0"),
        (llava("<image>\nWhat is it?", image=None), "1 for 0"),
        ({"messages": [{"role": "user", "content": 3}]}, "s: Expected message content"),
        ({"messages": ["hello"]}, "got str"),
        ({"texts": [{"user": "x"}]}, "`user` and `assistant`"),
        ({"conversations": [{"from": "gpt", "value": ANSWER}], "image": "x"}, "a question about the images"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "<image>"}], "image": "x"},
         "images in questions only"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_named(record: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        conversation_from(record, sample_id="s")


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_lists_and_lines_are_read(tmp_path: Path) -> None:
    records = [llava(QUESTION, image="x.jpg"), {"messages": [{"role": "user", "content": "b"}]}]
    as_list = read_conversations(write(tmp_path / "set.json", records))
    as_lines = read_conversations(write(tmp_path / "set.jsonl", "\n".join(map(json.dumps, records)) + "\n\n"))
    assert as_list == as_lines
    assert [one.sample_id for one in as_list] == ["a", "set/1"]
    assert as_list[0].images == (ImagePart(tmp_path / "x.jpg"),)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("all", [0, 1, 2, 3]), ("first:2", [0, 1]), ("first:50%", [0, 1]), ("end:1", [3]), ("end:25%", [3]),
     ("first:10%", [0]), ("first:99", [0, 1, 2, 3]), ("random:0", [])],
)  # fmt: skip
def test_a_mixture_takes_its_share(strategy: str, expected: list[int], tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    write(tmp_path / "a.json", [llava(str(number)) | {"id": number} for number in range(4)])
    write(tmp_path / "b.jsonl", json.dumps(llava("b") | {"id": "b"}))
    text = f"datasets:\n  - json_path: a.json\n    sampling_strategy: {strategy}\n  - json_path: b.jsonl\n"
    mixed = read_conversations(write(tmp_path / "mix.yaml", text))
    assert [one.sample_id for one in mixed] == [*map(str, expected), "b"]


def test_a_random_share_follows_the_seed(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [llava(str(number)) | {"id": number} for number in range(40)])
    mixture = {"datasets": [{"json_path": "a.json", "sampling_strategy": "random:25%"}]}
    path = write(tmp_path / "mix.json", mixture)
    first, again, other = ([one.sample_id for one in read_conversations(path, seed=seed)] for seed in (1, 1, 2))
    assert first == again != other and len(first) == len(set(first)) == 10
    assert first == sorted(first, key=int)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.json", None, "no such file"),
        ("a.json", "{", "Expected JSON in"),
        ("a.json", "[]", "at least one record"),
        ("a.json", "3", "a list of records"),
        ("a.json", "[3]", "an object as sample a/0"),
        ("a.jsonl", '{"id": 1}\n{', "line 2"),
        ("a.json", '{"datasets": [{}]}', "json_path"),
        ("a.json", '{"datasets": [{"json_path": "b.json", "sampling_strategy": "some"}]}', "sampling_strategy"),
        ("a.json", '{"datasets": [{"json_path": "b.json", "sampling_strategy": "first:inf"}]}', "sampling_strategy"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(name: str, text: str | None, says: str, tmp_path: Path) -> None:
    write(tmp_path / "b.json", [llava("b")])
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(DataError, match=says) as caught:
        read_conversations(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_lines_end_where_json_lines_do_and_records_that_are_none_may_be_left_out(tmp_path: Path) -> None:
    lines = [json.dumps(llava(f"a{separator}b"), ensure_ascii=False) for separator in "\u2028\u2029\x85"]
    path = write(tmp_path / "set.jsonl", "\n".join([*lines, '{"id": "empty"}']))
    left_out: list[str] = []
    read = read_conversations(path, left_out=left_out)
    assert [one.messages[0].text for one in read] == ["a\u2028b", "a\u2029b", "a\x85b"]
    assert len(left_out) == 1 and "sample empty" in left_out[0]


def test_a_saved_table_of_the_datasets_library_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    image = Image.fromarray(np.full((8, 6, 3), 200, np.uint8))
    messages = [
        [{"role": "user", "content": f"<image>{QUESTION}"}, {"role": "assistant", "content": ANSWER}]
    ] * 2  # fmt: skip
    table = datasets.Dataset.from_dict(
        {"messages": messages, "images": [[image], [image]]},
        features=datasets.Features(
            {
                "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
                "images": datasets.Sequence(datasets.Image()),
            }
        ),
    )
    table.save_to_disk(str(tmp_path / "table"))
    read = read_conversations(tmp_path / "table")
    assert [one.sample_id for one in read] == ["table/0", "table/1"]
    source = read[0].images[0].source
    assert isinstance(source, bytes) and source.startswith(b"\x89PNG")
    with pytest.raises(DataError, match="`datasets` saved"):
        read_conversations(tmp_path)
