"""The decoder against transformers' Qwen2 and Llama, and each fast path against its slow twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.language.decoder import Decoder, RMSNorm, rotary_angles
from fastvlm.models.language.kv_cache import KVCache

CONFIG = DecoderConfig(
    vocabulary_size=211,
    width=48,
    num_layers=3,
    num_heads=6,
    num_key_value_heads=2,
    feed_forward_width=96,
    head_dim=8,
    max_positions=128,
    rope_theta=10_000.0,
)
SHAPES = {
    "qwen2-grouped-bias-tied": CONFIG,
    "qwen2-multi-head-bias-untied": replace(CONFIG, num_key_value_heads=6, has_tied_head=False),
    "llama-multi-head-untied": replace(
        CONFIG, num_key_value_heads=6, has_attention_bias=False, has_tied_head=False, norm_epsilon=1e-5
    ),
    "llama-grouped-tied-wide-heads": replace(CONFIG, has_attention_bias=False, head_dim=16),
}


def random_decoder(config: DecoderConfig, seed: int = 0) -> Decoder:
    """A decoder with weights large enough that logits differ by whole units."""
    decoder = Decoder(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else noise * (0.3 if parameter.ndim == 1 else 0.2))
    return decoder


def transformers_module(name: str = "transformers") -> Any:
    """A module of transformers; a test skips where it is not installed."""
    return pytest.importorskip(name)


def oracle(decoder: Decoder) -> Any:
    """transformers' model of the same shape and weights."""
    transformers = transformers_module()
    config = decoder.config
    settings = {
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "intermediate_size": config.feed_forward_width,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.has_tied_head,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }
    if config.has_attention_bias:
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    weights = {foreign_name(name): tensor for name, tensor in decoder.state_dict().items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if config.has_tied_head else [])
    return model.eval()


def foreign_name(name: str) -> str:
    """The name that transformers gives to a parameter of ours."""
    if name.startswith("head."):
        return f"lm_{name}"
    renames = {
        "attention_norm": "input_layernorm",
        "feed_forward_norm": "post_attention_layernorm",
        "feed_forward": "mlp",
        "attention": "self_attn",
        "query": "q_proj",
        "key": "k_proj",
        "value": "v_proj",
        "output": "o_proj",
        "gate": "gate_proj",
        "up": "up_proj",
        "down": "down_proj",
    }
    return "model." + ".".join(renames.get(word, word) for word in name.split("."))


def positions_of(token_ids: Tensor) -> Tensor:
    return torch.arange(token_ids.shape[1]).expand_as(token_ids)


def run(decoder: Decoder, token_ids: Tensor) -> Tensor:
    hidden = decoder(decoder.embed(token_ids), positions=positions_of(token_ids))
    return decoder.logits(hidden)


def new_cache(config: DecoderConfig, *, batch_size: int, capacity: int) -> KVCache:
    return KVCache(config, batch_size=batch_size, capacity=capacity, device=torch.device("cpu"), dtype=torch.float32)


def random_ids(*shape: int) -> Tensor:
    return torch.randint(0, CONFIG.vocabulary_size, shape, generator=torch.Generator().manual_seed(7))


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return random_decoder(request.param)


@pytest.mark.golden
@torch.no_grad()
def test_logits_equal_transformers(decoder: Decoder) -> None:
    token_ids = random_ids(2, 40)
    ours = run(decoder, token_ids)
    theirs = oracle(decoder)(input_ids=token_ids).logits
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.golden
@torch.no_grad()
def test_left_padded_logits_equal_transformers() -> None:
    decoder = random_decoder(CONFIG)
    token_ids = random_ids(2, 12)
    attended = torch.ones(2, 12, dtype=torch.bool)
    attended[1, :5] = False
    positions = torch.stack((torch.arange(12), (torch.arange(12) - 5).clamp(min=0)))
    causal = torch.ones(12, 12, dtype=torch.bool).tril()
    mask = ((causal & attended[:, None, :]) | torch.eye(12, dtype=torch.bool))[:, None]
    ours = decoder.logits(decoder(decoder.embed(token_ids), positions=positions, mask=mask))
    theirs = oracle(decoder)(input_ids=token_ids, attention_mask=attended.long(), position_ids=positions).logits
    torch.testing.assert_close(ours[attended], theirs[attended], atol=1e-4, rtol=0)


@pytest.mark.golden
@torch.no_grad()
def test_64_greedy_tokens_equal_transformers(decoder: Decoder) -> None:
    token_ids = random_ids(1, 9)
    theirs = oracle(decoder).generate(token_ids, max_new_tokens=64, do_sample=False)[0, 9:].tolist()
    cache = new_cache(decoder.config, batch_size=1, capacity=16)
    hidden = decoder(decoder.embed(token_ids), positions=positions_of(token_ids), cache=cache)
    ours = [int(decoder.logits(hidden[:, -1]).argmax())]
    while len(ours) < 64:
        position = torch.tensor([[cache.num_positions]])
        hidden = decoder(decoder.embed(torch.tensor([[ours[-1]]])), positions=position, cache=cache)
        ours.append(int(decoder.logits(hidden[:, -1]).argmax()))
    assert len(set(theirs)) > 1, "a loop of one token would prove nothing"
    assert ours == theirs


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(1, 2, 3), (5, 11), (13,), tuple(range(1, 14))])
def test_cached_equals_uncached(decoder: Decoder, cuts: tuple[int, ...]) -> None:
    token_ids = random_ids(2, 14)
    whole = run(decoder, token_ids)
    cache = new_cache(decoder.config, batch_size=2, capacity=4)
    pieces = []
    for start, end in zip((0, *cuts), (*cuts, 14), strict=True):
        positions = positions_of(token_ids)[:, start:end]
        hidden = decoder(decoder.embed(token_ids[:, start:end]), positions=positions, cache=cache)
        pieces.append(decoder.logits(hidden))
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=0)
    assert cache.num_positions == 14


@torch.no_grad()
def test_explicit_causal_mask_equals_none(decoder: Decoder) -> None:
    token_ids = random_ids(2, 10)
    mask = torch.ones(10, 10, dtype=torch.bool).tril().expand(2, 1, 10, 10)
    masked = decoder(decoder.embed(token_ids), positions=positions_of(token_ids), mask=mask)
    plain = decoder(decoder.embed(token_ids), positions=positions_of(token_ids))
    torch.testing.assert_close(masked, plain, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_future_is_not_seen(decoder: Decoder) -> None:
    token_ids = random_ids(1, 10)
    changed = token_ids.clone()
    changed[0, 6:] = (changed[0, 6:] + 1) % CONFIG.vocabulary_size
    before, after = run(decoder, token_ids), run(decoder, changed)
    torch.testing.assert_close(before[:, :6], after[:, :6], atol=1e-5, rtol=0)
    assert (before[:, 6:] - after[:, 6:]).abs().max() > 0.1


@torch.no_grad()
def test_only_distances_between_positions_matter(decoder: Decoder) -> None:
    token_ids = random_ids(1, 10)
    embeddings, positions = decoder.embed(token_ids), positions_of(token_ids)
    here = decoder(embeddings, positions=positions)
    there = decoder(embeddings, positions=positions + 37)
    stretched = decoder(embeddings, positions=positions * 2)
    torch.testing.assert_close(here, there, atol=1e-3, rtol=0)
    assert (here - stretched).abs().max() > 0.1


def test_pitfall_b13_a_tied_head_is_the_embedding_table() -> None:
    tied, untied = Decoder(CONFIG), Decoder(replace(CONFIG, has_tied_head=False))
    assert "head.weight" not in tied.state_dict()
    assert untied.state_dict()["head.weight"].shape == (CONFIG.vocabulary_size, CONFIG.width)
    hidden = torch.randn(2, 3, CONFIG.width)
    torch.testing.assert_close(tied.logits(hidden), hidden @ tied.embed_tokens.weight.T)
    torch.testing.assert_close(untied.logits(hidden), hidden @ untied.head.weight.T)


def test_submodule_names_are_the_checkpoint_format() -> None:
    names = set(Decoder(replace(CONFIG, num_layers=1, has_tied_head=False)).state_dict())
    layer = {
        f"layers.0.{name}.weight"
        for name in (
            *(f"attention.{part}" for part in ("query", "key", "value", "output")),
            *(f"feed_forward.{part}" for part in ("gate", "up", "down")),
            "attention_norm",
            "feed_forward_norm",
        )
    }
    biases = {f"layers.0.attention.{part}.bias" for part in ("query", "key", "value")}
    assert names == layer | biases | {"embed_tokens.weight", "norm.weight", "head.weight"}


@torch.no_grad()
def test_selected_rows_score_as_all_rows_do(decoder: Decoder) -> None:
    hidden = torch.randn(2, 5, CONFIG.width)
    everything = decoder.logits(hidden)
    assert everything.shape == (2, 5, CONFIG.vocabulary_size)
    torch.testing.assert_close(decoder.logits(hidden[:, -1]), everything[:, -1])
    torch.testing.assert_close(decoder.logits(hidden[1, 2]), everything[1, 2])


@pytest.mark.golden
def test_norm_statistics_are_float32_and_rounding_is_that_of_transformers() -> None:
    qwen2 = transformers_module("transformers.models.qwen2.modeling_qwen2")
    hidden = (torch.randn(4, 64) * 300).to(torch.bfloat16)
    ours, theirs = RMSNorm(64, 1e-6).bfloat16(), qwen2.Qwen2RMSNorm(64, 1e-6).bfloat16()
    weight = torch.rand(64).bfloat16()
    ours.weight.data.copy_(weight)
    theirs.weight.data.copy_(weight)
    assert torch.equal(ours(hidden), theirs(hidden))


def test_rotary_angles_survive_a_cast_of_the_model() -> None:
    decoder = random_decoder(CONFIG).bfloat16()
    cosine, sine = rotary_angles(torch.tensor([[0, 12_345]]), head_dim=8, theta=1e6)
    assert cosine.dtype == sine.dtype == torch.float32
    expected = torch.cos(12_345 / 1e6 ** (torch.arange(0, 8, 2, dtype=torch.float64) / 8))
    torch.testing.assert_close(cosine[0, 0, 1, :4].double(), expected, atol=2e-3, rtol=0)
    assert run(decoder, random_ids(1, 5)).dtype == torch.bfloat16


@pytest.mark.golden
@torch.no_grad()
def test_bfloat16_stays_near_float32_and_near_transformers() -> None:
    token_ids = random_ids(2, 30)
    exact = run(random_decoder(CONFIG), token_ids)
    ours = random_decoder(CONFIG).bfloat16()
    theirs = oracle(random_decoder(CONFIG)).bfloat16()(input_ids=token_ids).logits
    rounded = run(ours, token_ids)
    assert torch.nn.functional.cosine_similarity(rounded.float(), exact, dim=-1).min() > 0.99
    assert torch.nn.functional.cosine_similarity(rounded.float(), theirs.float(), dim=-1).min() > 0.99


def test_fresh_weights_predict_evenly_and_can_learn() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, num_layers=8)
    decoder = Decoder(config)
    assert decoder.layers[0].attention.output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)
    assert decoder.embed_tokens.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert decoder.layers[0].attention.query.bias.abs().max() == 0
    token_ids = random_ids(4, 12)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        logits = run(decoder, token_ids)[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), token_ids[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.log(torch.tensor(211.0)).item(), abs=0.15)
    assert losses[-1] < losses[0] / 2
    assert all(parameter.grad is not None for parameter in decoder.parameters())
