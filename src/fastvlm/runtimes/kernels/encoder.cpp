// FastViTHD in its fused form, and the projector: pixels in, visual tokens out (paper section 3.2, appendix B). Areas of a
// map go through several layers while they are near; what is written in between are maps and what attention reads and gives.
#include <cstring>
#include <iterator>
#include <vector>

#include "attention.hpp"
#include "decoder.hpp"
#include "maps.hpp"
#include "pointwise.hpp"
#include "threads.hpp"

namespace fastvlm {

extern "C" struct Block {
  Depthwise mixer;           // of a RepMixer; else unused
  Pointwise mixed, attended;  // of attention; else unused
  Depthwise spatial;
  Pointwise expand, contract;
  int32_t is_attention;
};

extern "C" struct Stage {
  Depthwise patch;
  Pointwise pointwise;
  Depthwise position;
  const Block* blocks;
  int32_t width, depth, has_patch, has_position;
};

extern "C" struct EncoderShape {
  const float* stem_weights;  // 3 x 3 x 3 taps, rows, columns and colours in this order, x width
  const float* stem_bias;
  Depthwise stem_spatial;
  Pointwise stem_pointwise;
  const Stage* stages;
  Depthwise expansion;
  Pointwise reduce, restore;
  Pointwise first, second;  // of the projector
  int32_t num_stages, head_dim;
  float norm_epsilon;
};

namespace {

// Memory of a thread that its next piece of work takes over.
template <int kUse>
uint8_t* scratch(size_t num_bytes) {
  thread_local std::vector<uint8_t> memory;
  if (memory.size() < num_bytes + 64) memory.resize(num_bytes + 64);
  return memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64);
}

enum { kRows, kHidden, kPixels, kRing };

class Encoder {
 public:
  Encoder(const EncoderShape& shape, int num_threads) : shape_(shape), threads_(num_threads) {}

  // Have the largest maps of such pictures before there are any.
  void prepare_for(int count, int height, int width) {
    for (Map* map : {&now_, &spare_})
      if (map->shape(count, shape_.stem_spatial.num_in, height / 4, width / 4)) map->warm();
  }

  // levels: count x height x width x 3; table: 3 x 256.
  void encode(const uint8_t* levels, const float* table, int count, int height, int width) {
    const int stem_width = shape_.stem_spatial.num_in;
    now_.shape(count, stem_width, height / 4, width / 4);
    stem(levels, table, height, width);
    for (int number = 0; number < shape_.num_stages; ++number) {
      const Stage& stage = shape_.stages[number];
      if (stage.has_patch) {
        spare_.shape(count, stage.width, now_.height / 2, now_.width / 2);
        stage.pointwise.matrix.num_bits == 8 ? patch<8>(stage) : patch<16>(stage);
        std::swap(now_, spare_);
      }
      spare_.shape(count, stage.width, now_.height, now_.width);
      if (stage.has_position) {
        convolve_map<7>(stage.position);
        std::swap(now_, spare_);
      }
      for (int index = 0; index < stage.depth; ++index) {
        const Block& block = stage.blocks[index];
        block.expand.matrix.num_bits == 8 ? run<8>(block) : run<16>(block);
      }
    }
    expand();
  }

  // Of the pictures that were encoded last.
  void project(float* tokens) {
    const int channels = shape_.first.matrix.num_in, size = now_.height * now_.width;
    constexpr int kAtOnce = 48;
    const int num_rows = now_.count * size;
    threads_.run((num_rows + kAtOnce - 1) / kAtOnce, [&](int part) {
      const int first = part * kAtOnce, count = std::min(kAtOnce, num_rows - first);
      const size_t row_bytes = static_cast<size_t>(channels) * 2;
      const size_t hidden_bytes = static_cast<size_t>(shape_.second.matrix.num_in) * 2;
      uint8_t* inputs = scratch<kRows>(count * row_bytes);
      uint8_t* hidden = scratch<kHidden>(count * hidden_bytes);
      const Form<16> first_form(shape_.first), second_form(shape_.second);
      for (int row = 0; row < count; ++row) {
        const float* share = &shares_[static_cast<size_t>((first + row) / size) * channels];
        for (int channel = 0; channel < channels; channel += kLanes)
          first_form.take_gelu(
              _mm512_mul_ps(_mm512_loadu_ps(&looked_[static_cast<size_t>(first + row) * channels + channel]),
                            _mm512_loadu_ps(share + channel)),
              inputs + row * row_bytes, channel);
      }
      multiply_here<16>(shape_.first, inputs, count, [&](int row, int output, __m512 numbers) {
        second_form.take_gelu(numbers, hidden + row * hidden_bytes, output);
      });
      const int width = shape_.second.matrix.num_out;
      multiply_here<16>(shape_.second, hidden, count, [&](int row, int output, __m512 numbers) {
        _mm512_storeu_ps(tokens + static_cast<size_t>(first + row) * width + output, numbers);
      });
    });
  }

 private:
  // The first two layers of the stem are the widest maps of all, so only rows of the first one are kept.
  void stem(const uint8_t* levels, const float* table, int height, int width) {
    const int channels = shape_.stem_spatial.num_in, half_width = width / 2;
    constexpr int kRowsAtOnce = 8;
    const int down = (now_.height + kRowsAtOnce - 1) / kRowsAtOnce;
    threads_.run(now_.count * down, [&](int part) {
      const int tile = part / down, first = part % down * kRowsAtOnce;
      const uint8_t* picture = levels + static_cast<size_t>(tile) * height * width * 3;
      const size_t row_size = static_cast<size_t>(half_width + 2) * kLanes, ring_size = row_size * (channels / kLanes);
      float* ring = reinterpret_cast<float*>(scratch<kRing>(3 * ring_size * sizeof(float)));
      std::memset(ring, 0, 3 * ring_size * sizeof(float));
      const auto ring_row = [&](int row) { return ring + (row + 3) % 3 * ring_size; };
      const auto fill = [&](int row) { stem_row(picture, table, height, width, row, ring_row(row) + kLanes, row_size); };
      if (first) fill(2 * first - 1);
      for (int row = first; row < std::min(now_.height, first + kRowsAtOnce); ++row) {
        fill(2 * row);
        fill(2 * row + 1);
        const float* rows[3];
        for (int tap = 0; tap < 3; ++tap) rows[tap] = ring_row(2 * row + tap - 1);
        stem_end(rows, row_size, tile, row);
      }
    });
  }

  // One row of the stem's first layer, by planes: three rows of pixels, a border of zeros around them.
  void stem_row(const uint8_t* picture, const float* table, int height, int width, int row, float* target,
                size_t plane_stride) {
    const size_t padded = width + 2;
    float* near = reinterpret_cast<float*>(scratch<kPixels>(9 * padded * sizeof(float)));
    std::memset(near, 0, 9 * padded * sizeof(float));
    for (int tap = 0; tap < 3; ++tap) {
      const int y = 2 * row + tap - 1;
      if (y < 0 || y >= height) continue;
      const uint8_t* levels = picture + static_cast<size_t>(y) * width * 3;
      for (int colour = 0; colour < 3; ++colour) {
        float* numbers = near + (tap * 3 + colour) * padded + 1;
        for (int column = 0; column < width; ++column) numbers[column] = table[256 * colour + levels[3 * column + colour]];
      }
    }
    const int channels = shape_.stem_spatial.num_in, half_width = width / 2;
    for (int channel = 0; channel < channels; channel += kLanes) {
      const __m512 bias = _mm512_loadu_ps(shape_.stem_bias + channel);
      for (int column = 0; column < half_width; column += 8) {
        __m512 sums[8];
        std::fill(sums, sums + 8, bias);
        const float* weights = shape_.stem_weights + channel;
        for (int tap = 0; tap < 9; ++tap)
          for (int colour = 0; colour < 3; ++colour, weights += channels) {
            const __m512 weight = _mm512_loadu_ps(weights);
            const float* source = near + (tap / 3 * 3 + colour) * padded + 2 * column + tap % 3;
#pragma GCC unroll 8
            for (int index = 0; index < 8; ++index)
              sums[index] = _mm512_fmadd_ps(weight, _mm512_set1_ps(source[2 * index]), sums[index]);
          }
        for (int index = 0; index < 8; ++index)
          _mm512_storeu_ps(target + channel / kLanes * plane_stride + static_cast<size_t>(column + index) * kLanes,
                           gelu(sums[index]));
      }
    }
  }

  void stem_end(const float* const* rows, size_t plane_stride, int tile, int row) {
    const Depthwise& layer = shape_.stem_spatial;
    const Pointwise& next = shape_.stem_pointwise;
    const size_t row_bytes = static_cast<size_t>(layer.num_in) * 2;
    uint8_t* inputs = scratch<kRows>(now_.width * row_bytes);
    const Form<16> form(next);
    for (int channel = 0; channel < layer.num_in; channel += kLanes) {
      const size_t plane = channel / kLanes * plane_stride;
      const float* shifted[3] = {rows[0] + plane, rows[1] + plane, rows[2] + plane};
      convolve_row<3, 2>(shifted, layer.weights + channel * 9, _mm512_loadu_ps(layer.bias + channel), now_.width,
                         [&](int column, __m512 numbers) {
                           form.take_gelu(numbers, inputs + column * row_bytes, channel);
                         });
    }
    float* target = now_.at(tile, 0, row, 0);
    const size_t stride = now_.plane_stride();
    multiply_here<16>(next, inputs, now_.width, [=](int column, int output, __m512 numbers) {
      _mm512_storeu_ps(target + output / kLanes * stride + column * kLanes, gelu(numbers));
    });
  }

  template <typename Work>
  void in_areas(const Map& map, const Work& work) {
    const auto areas = areas_of(map.count, map.height, map.width, threads_.count());
    threads_.run(static_cast<int>(areas.size()), [&](int part) { work(areas[part]); });
  }

  // From `now_` to `spare_`.
  template <int kSize>
  void convolve_map(const Depthwise& layer) {
    in_areas(now_, [&](const Area& area) {
      convolve_area<kSize, 1>(layer, now_, area, [&](int row, int channel) {
        return into(spare_.at(area.tile, channel, area.first_row + row, area.first_column));
      });
    });
  }

  // From `now_` to `spare_`, which has half the sides.
  template <int kBits>
  void patch(const Stage& stage) {
    in_areas(spare_, [&](const Area& area) {
      const size_t row_bytes = static_cast<size_t>(stage.width) * (kBits / 8);
      uint8_t* inputs = scratch<kRows>(area.num_positions() * row_bytes);
      const Form<kBits> form(stage.pointwise);
      convolve_area<7, 2>(stage.patch, now_, area, [&](int row, int channel) {
        return [=](int column, __m512 numbers) {
          form.take_gelu(numbers, inputs + (row * area.num_columns() + column) * row_bytes, channel);
        };
      });
      const Positions target(spare_, area);
      multiply_here<kBits>(stage.pointwise, inputs, area.num_positions(),
                           [&](int position, int output, __m512 numbers) {
                             _mm512_storeu_ps(target(position, output), gelu(numbers));
                           });
    });
  }

  // Neighbours of a row, in one plane.
  static auto into(float* row) {
    return [=](int column, __m512 numbers) { _mm512_storeu_ps(row + column * kLanes, numbers); };
  }

  // A block, from `now_` to `now_`.
  template <int kBits>
  void run(const Block& block) {
    if (block.is_attention) {
      attend_all<kBits>(block);
      in_areas(now_, [&](const Area& area) { feed_forward<kBits>(block, area, now_, area); });
    } else {
      const auto strips = strips_of(now_.count, now_.height, now_.width, threads_.count());
      threads_.run(static_cast<int>(strips.size()), [&](int part) { run_strip<kBits>(block, strips[part]); });
    }
    std::swap(now_, spare_);
  }

  // RepMixer and ConvFFN of the areas of a strip, from above to below.
  template <int kBits>
  void run_strip(const Block& block, const Area& strip) {
    thread_local Map near;
    const int height = strip.last_row - strip.first_row, most_rows = rows_of_areas(now_.width);
    const int num_areas = (height + most_rows - 1) / most_rows;
    near.shape(1, now_.channels, most_rows, strip.num_columns());
    Area area = strip;
    for (int part = 0; part < num_areas; ++part) {
      area.last_row = strip.first_row + height * (part + 1) / num_areas;
      mix(block.mixer, area, area.first_row + (part ? kBorder : -kBorder), near);
      const int num_rows = area.last_row - area.first_row;
      feed_forward<kBits>(block, area, near, {0, 0, num_rows, 0, near.width});
      if (part + 1 < num_areas) near.move_up(num_rows);
      area.first_row = area.last_row;
    }
  }

  // RepMixer of an area of `now_` and of what a kernel of 7 x 7 reaches around it, from a row on: those above are there.
  void mix(const Depthwise& mixer, const Area& area, int first_row, Map& near) {
    const Area wide{area.tile, std::max(0, first_row), std::min(now_.height, area.last_row + kBorder),
                    std::max(0, area.first_column - kBorder), std::min(now_.width, area.last_column + kBorder)};
    const int first = first_row - area.first_row, last = area.last_row + kBorder - area.first_row;
    if (wide.num_positions() < (last - first) * (near.width + 2 * kBorder)) near.clear_rows(first, last);
    convolve_area<3, 1>(mixer, now_, wide, [&](int row, int channel) {
      return into(near.at(0, channel, wide.first_row - area.first_row + row, wide.first_column - area.first_column));
    });
  }

  // ConvFFN of an area of `spare_`: from where it lies in another map, which is added to it.
  template <int kBits>
  void feed_forward(const Block& block, const Area& area, const Map& source, const Area& there) {
    const int count = area.num_positions(), columns = area.num_columns();
    const size_t row_bytes = static_cast<size_t>(source.channels) * (kBits / 8);
    const size_t hidden_bytes = static_cast<size_t>(block.expand.matrix.num_out) * (kBits / 8);
    uint8_t* inputs = scratch<kRows>(count * row_bytes);
    uint8_t* hidden = scratch<kHidden>(count * hidden_bytes);
    const Form<kBits> expand_form(block.expand), contract_form(block.contract);
    convolve_area<7, 1>(block.spatial, source, there, [&](int row, int channel) {
      return [=](int column, __m512 numbers) {
        expand_form.take(numbers, inputs + (row * columns + column) * row_bytes, channel);
      };
    });
    multiply_here<kBits>(block.expand, inputs, count, [&](int position, int output, __m512 numbers) {
      contract_form.take_gelu(numbers, hidden + position * hidden_bytes, output);
    });
    const Positions before(source, there), target(spare_, area);
    multiply_here<kBits>(block.contract, hidden, count, [&](int position, int output, __m512 numbers) {
      _mm512_storeu_ps(target(position, output), _mm512_add_ps(_mm512_loadu_ps(before(position, output)), numbers));
    });
  }

  // Attention among all positions of each tile, added to `now_`.
  template <int kBits>
  void attend_all(const Block& block) {
    const int channels = now_.channels, size = now_.height * now_.width;
    const size_t width = 3 * static_cast<size_t>(channels);
    mixed_.resize(now_.count * size * width);
    looked_.resize(static_cast<size_t>(now_.count) * size * channels);
    const auto row_of = [&](const Area& area, int position) {
      return static_cast<size_t>(area.tile) * size + (area.first_row + position / area.num_columns()) * now_.width +
             area.first_column + position % area.num_columns();
    };
    in_areas(now_, [&](const Area& area) {
      const size_t row_bytes = static_cast<size_t>(channels) * (kBits / 8);
      uint8_t* inputs = scratch<kRows>(area.num_positions() * row_bytes);
      const Positions source(now_, area);
      const Form<kBits> form(block.mixed);
      for (int position = 0; position < area.num_positions(); ++position)
        normalise<kBits>(form, source(position, 0), inputs + position * row_bytes);
      multiply_here<kBits>(block.mixed, inputs, area.num_positions(), [&](int position, int output, __m512 numbers) {
        _mm512_storeu_ps(&mixed_[row_of(area, position) * width + output], numbers);
      });
    });
    const int num_heads = channels / shape_.head_dim;
    threads_.run(now_.count * num_heads, [&](int part) { attend_head(part / num_heads, part % num_heads, size); });
    in_areas(now_, [&](const Area& area) {
      const size_t row_bytes = static_cast<size_t>(channels) * (kBits / 8);
      uint8_t* inputs = scratch<kRows>(area.num_positions() * row_bytes);
      const Form<kBits> form(block.attended);
      for (int position = 0; position < area.num_positions(); ++position)
        for (int channel = 0; channel < channels; channel += kLanes)
          form.take(_mm512_loadu_ps(&looked_[row_of(area, position) * channels + channel]),
                    inputs + position * row_bytes, channel);
      const Positions target(now_, area);
      multiply_here<kBits>(block.attended, inputs, area.num_positions(), [&](int position, int output, __m512 numbers) {
        float* sums = target(position, output);
        _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), numbers));
      });
    });
  }

  // LayerNorm of a position of `now_`, whose weights are in the matrix that reads it.
  template <int kBits>
  void normalise(const Form<kBits>& form, const float* position, uint8_t* row) {
    const int channels = now_.channels;
    const size_t plane_stride = now_.plane_stride();
    const auto numbers = [&](int channel) { return _mm512_loadu_ps(position + channel / kLanes * plane_stride); };
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int channel = 0; channel < channels; channel += kLanes)
      sum = _mm512_add_ps(sum, numbers(channel));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / channels);
    for (int channel = 0; channel < channels; channel += kLanes) {
      const __m512 apart = _mm512_sub_ps(numbers(channel), mean);
      squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    const __m512 inverse =
        _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / channels + shape_.norm_epsilon));
    for (int channel = 0; channel < channels; channel += kLanes)
      form.take(_mm512_mul_ps(_mm512_sub_ps(numbers(channel), mean), inverse), row, channel);
  }

  void attend_head(int tile, int head, int size) {
    const int head_dim = shape_.head_dim, channels = now_.channels;
    const int whole = (size + kPositions - 1) / kPositions * kPositions;
    const size_t width = 3 * static_cast<size_t>(channels);
    const float* rows = &mixed_[static_cast<size_t>(tile) * size * width + head * head_dim];
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    static constexpr float nothing[kLargestHead] = {};
    uint16_t* keys = reinterpret_cast<uint16_t*>(scratch<kRows>(2 * static_cast<size_t>(whole) * head_dim * 2));
    uint16_t* values = keys + static_cast<size_t>(whole) * head_dim;
    for (int position = 0; position < size; ++position) {
      const float* key = rows + position * width + channels;
      put_key(key, keys, position, head_dim);
      put_value(key + channels, values, position, head_dim);
    }
    // The other half of the last pair is read, times nothing; what lay there before need not be a number.
    if (size % 2) put_value(nothing, values, size, head_dim);
    float* scores = reinterpret_cast<float*>(scratch<kHidden>(kQueries * static_cast<size_t>(whole) * sizeof(float)));
    for (int first = 0; first < size; first += kQueries) {
      const int count = std::min(kQueries, size - first);
      uint16_t queries[kQueries * kLargestHead];
      float* targets[kQueries];
      for (int row = 0; row < count; ++row) {
        const float* query = rows + (first + row) * width;
        for (int index = 0; index < head_dim; index += kLanes)
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(queries + row * head_dim + index),
                              reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(
                                  _mm512_mul_ps(_mm512_loadu_ps(query + index), _mm512_set1_ps(scale)))));
        targets[row] = &looked_[(static_cast<size_t>(tile) * size + first + row) * channels + head * head_dim];
      }
      look(keys, values, queries, count, head_dim, whole, scores, targets, [&](int) { return size; });
    }
  }

  // The widened map, and how much of each channel is to stay.
  void expand() {
    const Depthwise& layer = shape_.expansion;
    const int channels = layer.num_in * layer.multiplier, size = now_.height * now_.width;
    looked_.resize(static_cast<size_t>(now_.count) * size * channels);
    in_areas(now_, [&](const Area& area) {
      convolve_area<3, 1>(layer, now_, area, [&](int row, int channel) {
        const size_t first = static_cast<size_t>(area.tile) * size + (area.first_row + row) * now_.width +
                             area.first_column;
        float* target = &looked_[first * channels + channel];
        return [=](int column, __m512 numbers) { _mm512_storeu_ps(target + column * channels, numbers); };
      });
    });
    shares_.resize(static_cast<size_t>(now_.count) * channels);
    for (int tile = 0; tile < now_.count; ++tile)
      squeeze(&looked_[static_cast<size_t>(tile) * size * channels], size, &shares_[static_cast<size_t>(tile) * channels]);
  }

  // How much of each channel is to stay, by what the whole map holds.
  void squeeze(const float* rows, int size, float* shares) {
    const int channels = shape_.reduce.matrix.num_in, squeezed = shape_.restore.matrix.num_in;
    uint8_t* inputs = scratch<kRows>(static_cast<size_t>(channels) * 2);
    uint8_t* hidden = scratch<kHidden>(static_cast<size_t>(squeezed) * 2);
    const Form<16> reduce_form(shape_.reduce), restore_form(shape_.restore);
    for (int channel = 0; channel < channels; channel += kLanes) {
      __m512 sum = _mm512_setzero_ps();
      for (int row = 0; row < size; ++row)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(rows + static_cast<size_t>(row) * channels + channel));
      reduce_form.take(_mm512_div_ps(sum, _mm512_set1_ps(static_cast<float>(size))), inputs, channel);
    }
    multiply_here<16>(shape_.reduce, inputs, 1, [&](int, int output, __m512 numbers) {
      restore_form.take(_mm512_max_ps(numbers, _mm512_setzero_ps()), hidden, output);
    });
    multiply_here<16>(shape_.restore, hidden, 1, [&](int, int output, __m512 numbers) {
      _mm512_storeu_ps(shares + output, sigmoid(numbers));
    });
  }

  const EncoderShape shape_;
  Threads threads_;
  Map now_, spare_;
  std::vector<float> mixed_, looked_, shares_;
};

}  // namespace

extern "C" {

// Sizes of what both sides must lay out alike, in the order of library.py.
void fastvlm_sizes(int32_t* sizes) {
  const size_t all[] = {sizeof(Matrix), sizeof(Layer), sizeof(DecoderShape), sizeof(Sequence), sizeof(Pointwise),
                        sizeof(Depthwise), sizeof(Block), sizeof(Stage), sizeof(EncoderShape),
                        kPanel, kGroup, kLargestHead, kPositions};
  std::copy(std::begin(all), std::end(all), sizes);
}

// All pointers must stay what they are until the encoder is closed. It serves one caller at a time.
// Null: there was no memory, or no thread.
void* fastvlm_open_encoder(const EncoderShape* shape, int32_t num_threads) {
  try {
    return new Encoder(*shape, num_threads);
  } catch (...) {
    return nullptr;
  }
}

void fastvlm_close_encoder(void* encoder) { delete static_cast<Encoder*>(encoder); }

// Take the memory for pictures of this size. Not zero: there was none.
int32_t fastvlm_prepare(void* encoder, int32_t count, int32_t height, int32_t width) {
  try {
    static_cast<Encoder*>(encoder)->prepare_for(count, height, width);
    return 0;
  } catch (...) {
    return 1;
  }
}

// Levels of colours, count x height x width x 3, sides that are multiples of what a token stands for; and what each level
// is, 3 x 256. Not zero: there was no memory.
int32_t fastvlm_encode(void* encoder, const uint8_t* levels, const float* table, int32_t count, int32_t height,
                       int32_t width) {
  try {
    static_cast<Encoder*>(encoder)->encode(levels, table, count, height, width);
    return 0;
  } catch (...) {
    return 1;
  }
}

// What was encoded last as visual tokens x decoder width.
int32_t fastvlm_project(void* encoder, float* tokens) {
  try {
    static_cast<Encoder*>(encoder)->project(tokens);
    return 0;
  } catch (...) {
    return 1;
  }
}

}  // extern "C"

}  // namespace fastvlm
