// What a decoder is made of.
#pragma once

#include <cstdint>

#include "matrices.hpp"

namespace fastvlm {

extern "C" struct Layer {
  const float* attention_norm;
  Matrix mixed;  // queries, keys and values, one below the other
  const float* mixed_bias;  // or null
  Matrix output;
  const float* feed_forward_norm;
  Matrix gate_and_up;  // 16 outputs of one and 16 of the other in turn
  Matrix down;
};

extern "C" struct DecoderShape {
  int32_t width, feed_forward_width, num_layers, num_heads, num_key_value_heads, head_dim, vocabulary_size;
  float norm_epsilon;
};

}  // namespace fastvlm
