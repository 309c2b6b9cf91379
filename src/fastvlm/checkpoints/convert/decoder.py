"""What Qwen2 and Llama checkpoints share, whatever they are wrapped in: tensor names and configuration keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastvlm.checkpoints.names import Name, names, under
from fastvlm.errors import CheckpointError
from fastvlm.models.language.config import DecoderConfig

_LAYER = names(
    ("attention_norm", "input_layernorm"),
    ("attention.query", "self_attn.q_proj"),
    ("attention.key", "self_attn.k_proj"),
    ("attention.value", "self_attn.v_proj"),
    ("attention.output", "self_attn.o_proj"),
    ("feed_forward_norm", "post_attention_layernorm"),
    ("feed_forward.gate", "mlp.gate_proj"),
    ("feed_forward.up", "mlp.up_proj"),
    ("feed_forward.down", "mlp.down_proj"),
)

# What the libraries that wrote these files take for a key that is absent.
_DEFAULTS = {"rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "max_position_embeddings": 2048}


def decoder_names(prefix: str) -> tuple[Name, ...]:
    """The decoder without its output head, under the prefix of the wrapping model."""
    body = (*names(("embed_tokens", "embed_tokens"), ("norm", "norm")), *under("layers.{i}", "layers.{i}", _LAYER))
    return under("decoder", prefix, body)


def read_decoder(
    raw: Mapping[str, Any], *, has_attention_bias: bool, vocabulary_size: int, has_tied_head: bool, where: str
) -> DecoderConfig:
    """Read the shape of a decoder from its keys; vocabulary and tying are decided from the weights (pitfall B13)."""
    _refuse_unsupported(raw, where)
    width = whole_number(raw, "hidden_size", where)
    num_heads = whole_number(raw, "num_attention_heads", where)
    rope = optional_section(raw, "rope_parameters", where)
    return DecoderConfig(
        vocabulary_size=vocabulary_size,
        width=width,
        num_layers=whole_number(raw, "num_hidden_layers", where),
        num_heads=num_heads,
        num_key_value_heads=whole_number(raw, "num_key_value_heads", where, default=num_heads),
        feed_forward_width=whole_number(raw, "intermediate_size", where),
        head_dim=whole_number(raw, "head_dim", where, default=width // num_heads),
        max_positions=whole_number(
            raw, "max_position_embeddings", where, default=int(_DEFAULTS["max_position_embeddings"])
        ),
        rope_theta=_number(rope if "rope_theta" in rope else raw, "rope_theta", where),
        norm_epsilon=_number(raw, "rms_norm_eps", where),
        has_attention_bias=has_attention_bias,
        has_tied_head=has_tied_head,
    )


def decoder_keys(config: DecoderConfig) -> dict[str, Any]:
    """Write the shape of a decoder as the keys that Qwen2 and Llama have in common."""
    return {
        "hidden_act": "silu",
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "max_position_embeddings": config.max_positions,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.has_tied_head,
        "use_cache": True,
        "vocab_size": config.vocabulary_size,
    }


def whole_number(raw: Mapping[str, Any], key: str, where: str, *, default: int | None = None) -> int:
    """Read a positive whole number from a configuration."""
    value = raw.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"Expected {key} in {where} to be a positive whole number, got {value!r}.")
    return value


def optional_section(raw: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Read an object of a configuration, empty where it is absent."""
    value = raw.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise CheckpointError(f"Expected {key} in {where} to be a JSON object, got {value!r}. Correct the file.")
    return value or {}


def _number(raw: Mapping[str, Any], key: str, where: str) -> float:
    value = raw.get(key, _DEFAULTS[key])
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise CheckpointError(f"Expected {key} in {where} to be a positive number, got {value!r}.")
    return float(value)


def _refuse_unsupported(raw: Mapping[str, Any], where: str) -> None:
    rope = optional_section(raw, "rope_parameters", where)
    scaling = optional_section(raw, "rope_scaling", where)
    kind = scaling.get("rope_type") or scaling.get("type") or rope.get("rope_type") or "default"
    unsupported = {
        "hidden_act": raw.get("hidden_act", "silu") != "silu",
        "rope_scaling": kind != "default",
        "use_sliding_window": bool(raw.get("use_sliding_window")),
        "mlp_bias": bool(raw.get("mlp_bias")),
        "quantization_config": bool(raw.get("quantization_config") or raw.get("quantization")),
    }
    for key, is_unsupported in unsupported.items():
        if is_unsupported:
            found = raw.get(key) or raw.get("rope_parameters") or raw.get("quantization")
            raise CheckpointError(
                f"Expected a plain Qwen2 or Llama decoder in {where}, got {key} = {found!r}. "
                "This is not supported; use the original, unquantised checkpoint."
            )
