"""The tensor names of the authors' checkpoints (`model_type` `llava_qwen2` and `llava_llama`), as data."""

from __future__ import annotations

from fastvlm.checkpoints.convert.decoder import decoder_names
from fastvlm.checkpoints.names import Name, NameTable, names, under

_CONV_NORM = names(("conv", "conv"), ("norm", "bn"))

_MOBILE_ONE = (
    *under("conv", "rbr_conv.0", _CONV_NORM),
    *under("scale", "rbr_scale", _CONV_NORM),
    *names(("skip", "rbr_skip"), ("fused", "reparam_conv")),
)

_PATCH_EMBEDDING = (
    *under("spatial.large", "proj.0.lkb_origin", _CONV_NORM),
    *under("spatial.small", "proj.0.small_conv", _CONV_NORM),
    *names(("spatial.fused", "proj.0.lkb_reparam")),
    *under("pointwise", "proj.1", _MOBILE_ONE),
)

_POSITION_ENCODING = names(("conv", "pe"), ("fused", "reparam_conv"))

_FEED_FORWARD = (
    *under("spatial", "conv", _CONV_NORM),
    *names(("expand", "fc1"), ("contract", "fc2")),
)

_REPMIXER_BLOCK = (
    *under("token_mixer.mixer", "token_mixer.mixer", _MOBILE_ONE),
    *names(
        ("token_mixer.norm.skip", "token_mixer.norm.rbr_skip"),
        ("token_mixer.layer_scale", "token_mixer.layer_scale"),
        ("token_mixer.fused", "token_mixer.reparam_conv"),
        ("layer_scale", "layer_scale"),
    ),
    *under("feed_forward", "convffn", _FEED_FORWARD),
)

_ATTENTION_BLOCK = (
    *names(
        ("norm", "norm"),
        ("attention.qkv", "token_mixer.qkv"),
        ("attention.output", "token_mixer.proj"),
        ("attention_scale", "layer_scale_1"),
        ("feed_forward_scale", "layer_scale_2"),
    ),
    *under("feed_forward", "convffn", _FEED_FORWARD),
)

# The authors number patch embeddings, position encodings and stages in one list.
ENCODER: tuple[Name, ...] = (
    *under("stem.blocks.{i}", "patch_embed.{i}", _MOBILE_ONE),
    *under("stages.0.blocks.{i}", "network.0.{i}", _REPMIXER_BLOCK),
    *under("stages.1.patch_embedding", "network.1", _PATCH_EMBEDDING),
    *under("stages.1.blocks.{i}", "network.2.{i}", _REPMIXER_BLOCK),
    *under("stages.2.patch_embedding", "network.3", _PATCH_EMBEDDING),
    *under("stages.2.blocks.{i}", "network.4.{i}", _REPMIXER_BLOCK),
    *under("stages.3.patch_embedding", "network.5", _PATCH_EMBEDDING),
    *under("stages.3.position_encoding", "network.6", _POSITION_ENCODING),
    *under("stages.3.blocks.{i}", "network.7.{i}", _ATTENTION_BLOCK),
    *under("stages.4.patch_embedding", "network.8", _PATCH_EMBEDDING),
    *under("stages.4.position_encoding", "network.9", _POSITION_ENCODING),
    *under("stages.4.blocks.{i}", "network.10.{i}", _ATTENTION_BLOCK),
    *under("expansion.conv", "conv_exp", _MOBILE_ONE),
    *names(
        ("expansion.squeeze_excite.reduce", "conv_exp.se.reduce"),
        ("expansion.squeeze_excite.expand", "conv_exp.se.expand"),
        ("clip_head.projection", "head.proj"),
    ),
)

ENCODER_TABLE = NameTable(ENCODER)
"""The encoder alone, as in a CLIP checkpoint."""

TABLE = NameTable(
    (
        *under("vision", "model.vision_tower.vision_tower.model", ENCODER),
        *names(("projector.linear_1", "model.mm_projector.0"), ("projector.linear_2", "model.mm_projector.2")),
        *decoder_names("model"),
        *names(("decoder.head", "lm_head")),
    ),
    ignored=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
)
"""A whole vision-language model."""
