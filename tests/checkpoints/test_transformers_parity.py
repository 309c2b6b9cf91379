"""transformers' own FastVLM on a folder that we wrote: the same logits, the same greedy tokens, the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastvlm.checkpoints.load import load_checkpoint
from fastvlm.checkpoints.rewrite import rewrite_checkpoint
from fastvlm.checkpoints.save import save_checkpoint
from fastvlm.messages import ImagePart, user
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import PRESETS as DECODERS
from fastvlm.models.language.kv_cache import KVCache
from fastvlm.models.vision.config import PRESETS as ENCODERS
from fastvlm.models.vlm import FastVLM
from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.prompt import render_text
from fastvlm.processing.templates import TEMPLATES
from fastvlm.processing.tokenizer import Tokenizer

pytestmark = pytest.mark.golden

PROMPT = ([1, 40, 50, 60], [70, 2, 1, 44, 55])


@pytest.fixture
def transformers(oracle: Callable[[str], Any]) -> Iterator[Any]:
    oracle("timm")
    oracle("torchvision")
    library = oracle("transformers")
    if not hasattr(library, "FastVlmForConditionalGeneration"):
        pytest.skip("this version of transformers has no FastVLM")
    with torch.no_grad():
        yield library


def load_theirs(transformers: Any, folder: Path) -> Any:
    model, info = transformers.FastVlmForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), f"not every tensor of {folder} was taken: {info}"
    return model.eval()


def with_slots(num_visual: int, slot: int) -> Tensor:
    return torch.tensor([PROMPT[0] + [slot] * num_visual + PROMPT[1]])


def our_logits(model: FastVLM, pixels: Tensor, token_ids: Tensor, slot: int) -> Tensor:
    positions = torch.arange(token_ids.shape[1])[None]
    visual_tokens = model.encode(pixels).flatten(0, 1)
    return model(visual_tokens, token_ids=token_ids, is_visual=token_ids == slot, positions=positions)


def require_influence(model: FastVLM, pixels: Tensor, token_ids: Tensor, slot: int) -> None:
    """Agreement proves something only where the picture changes what comes after it."""
    first, other = (our_logits(model, image, token_ids, slot)[:, -1] for image in (pixels, pixels.flip(-1)))
    assert (first - other).abs().max() > 1e-2


def our_greedy(model: FastVLM, pixels: Tensor, token_ids: Tensor, slot: int, *, num_new: int) -> list[int]:
    decoder = model.decoder
    num_prompt = token_ids.shape[1]
    cache = KVCache(
        decoder.config, batch_size=1, capacity=num_prompt + num_new, device=pixels.device, dtype=torch.float32
    )
    embeddings = model.embed(token_ids, token_ids == slot, model.encode(pixels).flatten(0, 1))
    hidden = decoder(embeddings, positions=torch.arange(num_prompt)[None], cache=cache)
    answer: list[int] = []
    for position in range(num_prompt, num_prompt + num_new):
        answer.append(int(decoder.logits(hidden[:, -1]).argmax()))
        embeddings = decoder.embed(torch.tensor([answer[-1:]]))
        hidden = decoder(embeddings, positions=torch.tensor([[position]]), cache=cache)
    return answer


def their_greedy(model: Any, pixels: Tensor, token_ids: Tensor, *, num_new: int) -> list[int]:
    # Nothing ends or bends the answer, so that all of it can be compared.
    model.generation_config.eos_token_id = model.generation_config.suppress_tokens = None
    produced = model.generate(
        input_ids=token_ids,
        attention_mask=torch.ones_like(token_ids),
        pixel_values=pixels,
        do_sample=False,
        max_new_tokens=num_new,
    )
    tokens: list[int] = produced[0, token_ids.shape[1] :].tolist()
    return tokens


@pytest.mark.parametrize("decoder", ["qwen2 tied", "qwen2 untied", "llama"])
def test_a_small_model_gives_the_same_logits_and_tokens(
    decoder: str, saved: Callable[..., Path], small: Any, transformers: Any
) -> None:
    shape = small.llama if decoder == "llama" else replace(small.decoder, has_tied_head=decoder.endswith(" tied"))
    folder = saved("transformers", model=small.build(decoder=shape))
    theirs, ours = load_theirs(transformers, folder), load_checkpoint(folder).model
    slot = theirs.config.image_token_id
    for height, width in ((128, 128), (192, 128)):
        pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        token_ids = with_slots(height * width // 64**2, slot)
        expected = theirs(input_ids=token_ids, pixel_values=pixels, attention_mask=torch.ones_like(token_ids)).logits
        torch.testing.assert_close(our_logits(ours, pixels, token_ids, slot), expected, atol=1e-4, rtol=0)
        require_influence(ours, pixels, token_ids, slot)
        answer = our_greedy(ours, pixels, token_ids, slot, num_new=16)
        assert len(set(answer)) > 3, "an answer of one token would prove little"
        assert answer == their_greedy(theirs, pixels, token_ids, num_new=16)


def test_their_encoder_in_train_form_is_ours(small: Any, oracle: Callable[[str], Any]) -> None:
    from fastvlm.checkpoints.convert.transformers import ENCODER_TABLE

    oracle("torchvision")
    timm = oracle("timm")
    encoder = small.build().vision
    theirs = timm.create_model(
        "fastvit_mci3", num_classes=0, layers=encoder.config.depths, embed_dims=encoder.config.widths
    ).eval()
    theirs.load_state_dict({ENCODER_TABLE.to_theirs(name): value for name, value in encoder.state_dict().items()})
    pixels = torch.rand(2, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels), theirs.forward_features(pixels), atol=1e-4, rtol=1e-4)


def test_their_saved_folder_is_read(saved: Callable[..., Path], tmp_path: Path, transformers: Any) -> None:
    folder = saved("transformers")
    model = load_theirs(transformers, folder)
    model.save_pretrained(tmp_path / "resaved")
    transformers.AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path / "resaved")
    ours, again = load_checkpoint(folder), load_checkpoint(tmp_path / "resaved")
    assert replace(again.config, name=ours.config.name) == ours.config
    expected = ours.model.state_dict()
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_pitfall_b1_their_processor_pads_as_we_do(saved: Callable[..., Path], transformers: Any) -> None:
    """A 1:3 picture keeps both its ends, and the prompt has one slot for each visual token."""
    from PIL import Image

    from fastvlm.processing.tiling import ImageProcessor

    folder = saved("transformers", processing=ProcessingConfig(size_px=128, mean=(0.2, 0.3, 0.4)))
    loaded = load_checkpoint(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    ramp = np.linspace(0, 255, 300, dtype=np.uint8)
    array = np.repeat(np.tile(ramp, (100, 1))[:, :, None], 3, axis=2)
    picture = Image.fromarray(array)
    parts = [{"type": "image"}, {"type": "text", "text": "what is this?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    assert prompt == render_text([user(ImagePart(picture), "what is this?")], TEMPLATES["qwen_2"])
    inputs = processor(images=picture, text=prompt, return_tensors="pt")
    assert int((inputs["input_ids"] == processor.image_token_id).sum()) == 4
    pixels = ImageProcessor(loaded.processing)(array).pixels
    difference = np.abs(pixels - inputs["pixel_values"].numpy())
    assert difference.max() <= 1.01 / 255


def test_pitfall_b24_our_model_type_is_not_one_of_theirs(transformers: Any) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert "fastvlm" not in CONFIG_MAPPING_NAMES
    assert "fast_vlm" in CONFIG_MAPPING_NAMES


@pytest.mark.slow
def test_a_full_size_checkpoint_in_both_layouts_gives_transformers_logits_and_tokens(
    tmp_path: Path, small: Any, tokenizer: Tokenizer, transformers: Any
) -> None:
    """The 0.5B shape at 1024 pixels: 256 visual tokens, a vocabulary of 151,936, weights stored in bfloat16."""
    torch.manual_seed(0)
    vlm = VLMConfig(vision=replace(ENCODERS["fastvithd-clip"], form="train"), decoder=DECODERS["qwen2-0.5b"])
    model = small.with_sane_weights(FastVLM(vlm))
    config = small.config_of(model, processing=ProcessingConfig())
    apple = save_checkpoint(
        tmp_path / "apple", model, config, tokenizer, layout="apple", dtype=torch.bfloat16, max_shard_bytes=600_000_000
    )
    del model
    folder = rewrite_checkpoint(apple, tmp_path / "transformers", layout="transformers")
    from_apple = load_checkpoint(apple, dtype=torch.float32).model
    ours = load_checkpoint(folder, dtype=torch.float32).model
    expected = from_apple.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())
    assert sum(parameter.numel() for parameter in ours.vision.parameters()) == pytest.approx(122.71e6, abs=5e3)
    del from_apple, expected

    theirs = load_theirs(transformers, folder)
    slot = theirs.config.image_token_id
    pixels = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    token_ids = with_slots(256, slot)
    their_logits = theirs(input_ids=token_ids, pixel_values=pixels, attention_mask=torch.ones_like(token_ids)).logits
    logits = our_logits(ours, pixels, token_ids, slot)
    largest = float((logits - their_logits).abs().max())
    print(f"\nlogits {tuple(logits.shape)}, |logit| <= {float(logits.abs().max()):.2f}, difference <= {largest:.2e}")
    assert largest <= 1e-3
    require_influence(ours, pixels, token_ids, slot)
    answer = our_greedy(ours, pixels, token_ids, slot, num_new=16)
    print(f"greedy tokens {answer}")
    assert len(set(answer)) > 3, "an answer of one token would prove little"
    assert answer == their_greedy(theirs, pixels, token_ids, num_new=16)
