// Maps of an encoder: channels innermost, in float32, with a border of zeros; and depthwise convolutions over them.
#pragma once

#include <immintrin.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace fastvlm {

constexpr int kBorder = 3;  // what a 7 x 7 kernel reaches beyond
constexpr int kLanes = 16;

class Map {
 public:
  int count = 0, channels = 0, height = 0, width = 0;

  // Have this shape. What is inside is anything, what is around it zeros. Returns whether memory was taken for it.
  bool shape(int new_count, int new_channels, int new_height, int new_width) {
    if (new_count == count && new_channels == channels && new_height == height && new_width == width) return false;
    count = new_count, channels = new_channels, height = new_height, width = new_width;
    const size_t size = count * tile_stride();
    const bool is_larger = size > room_;
    if (is_larger) {
      room_ = 0;
      numbers_.reset();
      // Neighbours of a column lie far apart: in large pages the processor finds them sooner.
      const size_t page = size * sizeof(float) < kLargePage ? 64 : kLargePage;
      const size_t num_bytes = (size * sizeof(float) + page - 1) / page * page;
      numbers_.reset(static_cast<float*>(aligned_alloc(page, num_bytes)));
      if (!numbers_) {
        count = 0;
        throw std::bad_alloc();
      }
      room_ = size;
#ifdef __linux__
      if (page == kLargePage) madvise(numbers_.get(), num_bytes, MADV_HUGEPAGE);
#endif
    }
    clear_border();
    return is_larger;
  }

  // Write to all of it: the system gives memory page by page, when it is first written to.
  void warm() { std::fill_n(numbers_.get(), count * tile_stride(), 0.0f); }

  void clear_border() {
    for (int tile = 0; tile < count; ++tile) {
      for (int row = -kBorder; row < height + kBorder; ++row) {
        const bool is_inside = row >= 0 && row < height;
        std::fill_n(at(tile, row, -kBorder), is_inside ? kBorder * channels : row_stride(), 0.0f);
        if (is_inside) std::fill_n(at(tile, row, width), kBorder * channels, 0.0f);
      }
    }
  }

  size_t row_stride() const { return static_cast<size_t>(width + 2 * kBorder) * channels; }
  size_t tile_stride() const { return row_stride() * (height + 2 * kBorder); }

  float* at(int tile, int y, int x) const {
    return numbers_.get() + tile * tile_stride() + (y + kBorder) * row_stride() +
           static_cast<size_t>(x + kBorder) * channels;
  }

 private:
  static constexpr size_t kLargePage = size_t{2} << 20;

  struct Free {
    void operator()(float* numbers) const { free(numbers); }
  };
  std::unique_ptr<float, Free> numbers_;
  size_t room_ = 0;
};

// A part of a map that one thread works on: rows and columns from the first ones to before the last ones.
struct Area {
  int tile, first_row, last_row, first_column, last_column;
  int num_columns() const { return last_column - first_column; }
  int num_positions() const { return (last_row - first_row) * num_columns(); }
};

// Areas of up to about 100 positions, so many that all threads have as much to do.
inline std::vector<Area> areas_of(int count, int height, int width, int num_threads) {
  constexpr int kColumns = 16, kPositions = 96;
  const int across = (width + kColumns - 1) / kColumns, columns = std::min(width, kColumns);
  const int most_rows = std::max(1, kPositions / columns);
  int down = (height + most_rows - 1) / most_rows;
  while (count * across * down % num_threads && down < height) ++down;
  std::vector<Area> areas;
  for (int tile = 0; tile < count; ++tile)
    for (int part = 0; part < down; ++part)
      for (int column = 0; column < width; column += kColumns)
        areas.push_back({tile, height * part / down, height * (part + 1) / down, column,
                         std::min(width, column + kColumns)});
  return areas;
}

// A convolution of each channel on its own. weights: multiplier x taps x num_in; output i of a channel is channel
// i * num_in + channel of the result.
extern "C" struct Depthwise {
  const float* weights;
  const float* bias;
  int32_t num_in, multiplier;
};

// kColumns neighbours of one row of the output, 16 channels. rows: where the kernel's rows begin in the input.
template <int kSize, int kStride, int kColumns>
inline void convolve(const float* const* rows, int channels, const float* weights, __m512* sums) {
  for (int row = 0; row < kSize; ++row) {
    for (int column = 0; column < kSize; ++column, weights += channels) {
      const __m512 weight = _mm512_loadu_ps(weights);
      const float* source = rows[row] + static_cast<size_t>(column) * channels;
#pragma GCC unroll 8
      for (int index = 0; index < kColumns; ++index)
        sums[index] = _mm512_fmadd_ps(
            weight, _mm512_loadu_ps(source + static_cast<size_t>(index) * kStride * channels), sums[index]);
    }
  }
}

// A row of outputs, 16 channels: store(column, numbers) is given each.
template <int kSize, int kStride, typename Store>
void convolve_row(const float* const* rows, int channels, const float* weights, __m512 bias, int num_columns,
                  const Store& store) {
  const auto at_once = [&](auto number, int first) {
    constexpr int kAtOnce = decltype(number)::value;
    const float* shifted[kSize];
    for (int row = 0; row < kSize; ++row) shifted[row] = rows[row] + static_cast<size_t>(first) * kStride * channels;
    __m512 sums[kAtOnce];
    std::fill(sums, sums + kAtOnce, bias);
    convolve<kSize, kStride, kAtOnce>(shifted, channels, weights, sums);
    for (int index = 0; index < kAtOnce; ++index) store(first + index, sums[index]);
  };
  int column = 0;
  for (; column + 8 <= num_columns; column += 8) at_once(std::integral_constant<int, 8>(), column);
  if (column == num_columns) return;
  // The last few again together with some before them, which come out the same.
  if (num_columns > 8) at_once(std::integral_constant<int, 8>(), num_columns - 8);
  else
    for (; column < num_columns; ++column) at_once(std::integral_constant<int, 1>(), column);
}

// All outputs of an area: store(row, column, channel, numbers), rows and columns of the area.
template <int kSize, int kStride, typename Store>
void convolve_area(const Depthwise& layer, const Map& map, const Area& area, const Store& store) {
  constexpr int kTaps = kSize * kSize;
  for (int part = 0; part < layer.multiplier; ++part) {
    for (int channel = 0; channel < layer.num_in; channel += kLanes) {
      const int output = part * layer.num_in + channel;
      const float* weights = layer.weights + static_cast<size_t>(part) * kTaps * layer.num_in + channel;
      const __m512 bias = _mm512_loadu_ps(layer.bias + output);
      for (int row = area.first_row; row < area.last_row; ++row) {
        const float* rows[kSize];
        for (int tap = 0; tap < kSize; ++tap)
          rows[tap] = map.at(area.tile, row * kStride + tap - kSize / 2, area.first_column * kStride - kSize / 2) + channel;
        // The next channels of the last of these rows: neighbours lie too far apart to be fetched before they are read.
        for (int column = 0; column < area.num_columns() * kStride + kSize - 1; ++column)
          _mm_prefetch(reinterpret_cast<const char*>(rows[kSize - 1] + static_cast<size_t>(column) * layer.num_in +
                                                     kLanes), _MM_HINT_T0);
        convolve_row<kSize, kStride>(rows, layer.num_in, weights, bias, area.num_columns(),
                                     [&](int column, __m512 numbers) {
                                       store(row - area.first_row, column, output, numbers);
                                     });
      }
    }
  }
}

}  // namespace fastvlm
