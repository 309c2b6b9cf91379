// Maps of an encoder: planes of 16 channels each, in float32, with a border of zeros; and depthwise convolutions over them.
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
      // Planes lie far apart: in large pages the processor finds them sooner.
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
      for (int channel = 0; channel < channels; channel += kLanes) {
        for (int row = -kBorder; row < height + kBorder; ++row) {
          const bool is_inside = row >= 0 && row < height;
          std::fill_n(at(tile, channel, row, -kBorder), is_inside ? kBorder * kLanes : row_stride(), 0.0f);
          if (is_inside) std::fill_n(at(tile, channel, row, width), kBorder * kLanes, 0.0f);
        }
      }
    }
  }

  // Make rows of the only tile zeros, what is around them too.
  void clear_rows(int first, int last) {
    for (int channel = 0; channel < channels; channel += kLanes)
      std::fill_n(at(0, channel, first, -kBorder), (last - first) * row_stride(), 0.0f);
  }

  // Go on to the area `num_rows` below, of the only tile: the last kBorder rows of this one and the kBorder below them become
  // the border above and the first rows.
  void move_up(int num_rows) {
    for (int channel = 0; channel < channels; channel += kLanes)
      std::memmove(at(0, channel, -kBorder, -kBorder), at(0, channel, num_rows - kBorder, -kBorder),
                   2 * kBorder * row_stride() * sizeof(float));
  }

  size_t row_stride() const { return static_cast<size_t>(width + 2 * kBorder) * kLanes; }
  size_t plane_stride() const { return row_stride() * (height + 2 * kBorder); }
  size_t tile_stride() const { return plane_stride() * (channels / kLanes); }

  // 16 channels from `channel` on, which is the first one of a plane.
  float* at(int tile, int channel, int y, int x) const {
    return numbers_.get() + tile * tile_stride() + channel / kLanes * plane_stride() + (y + kBorder) * row_stride() +
           static_cast<size_t>(x + kBorder) * kLanes;
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

// Where the positions of an area, one row after the other, lie in a map.
class Positions {
 public:
  Positions(const Map& map, const Area& area)
      : first_(map.at(area.tile, 0, area.first_row, area.first_column)), plane_stride_(map.plane_stride()) {
    offsets_.reserve(area.num_positions());
    for (int row = 0; row < area.last_row - area.first_row; ++row)
      for (int column = 0; column < area.num_columns(); ++column)
        offsets_.push_back(row * map.row_stride() + column * kLanes);
  }

  // 16 channels from `channel` on, which is the first one of a plane.
  float* operator()(int position, int channel) const {
    return first_ + channel / kLanes * plane_stride_ + offsets_[position];
  }

 private:
  float* first_;
  size_t plane_stride_;
  std::vector<size_t> offsets_;
};

constexpr int kAreaColumns = 16, kAreaRows = 6;  // of about 100 positions, whose numbers stay near

// A map in `down` rows of areas that are as wide as they may be.
inline std::vector<Area> split(int count, int height, int width, int down) {
  std::vector<Area> areas;
  for (int tile = 0; tile < count; ++tile)
    for (int part = 0; part < down; ++part)
      for (int column = 0; column < width; column += kAreaColumns)
        areas.push_back({tile, height * part / down, height * (part + 1) / down, column,
                         std::min(width, column + kAreaColumns)});
  return areas;
}

inline int num_across(int width) { return (width + kAreaColumns - 1) / kAreaColumns; }

inline int rows_of_areas(int width) { return std::max(1, kAreaColumns * kAreaRows / std::min(width, kAreaColumns)); }

// Areas of up to about 100 positions, so many that all threads have as much to do.
inline std::vector<Area> areas_of(int count, int height, int width, int num_threads) {
  const int most_rows = rows_of_areas(width);
  int down = (height + most_rows - 1) / most_rows;
  while (count * num_across(width) * down % num_threads && down < height) ++down;
  return split(count, height, width, down);
}

// Strips of areas one below the other, for layers that share what lies between these: few, and yet so many that all
// threads have as much to do.
inline std::vector<Area> strips_of(int count, int height, int width, int num_threads) {
  constexpr int kEach = 4, kEnough = 8;  // strips for each thread
  const int across = count * num_across(width);
  int down = std::min(height, (kEach * num_threads + across - 1) / across);
  while (across * down % num_threads && across * down < kEnough * num_threads && down < height) ++down;
  return split(count, height, width, down);
}

// A convolution of each channel on its own. weights: multiplier x planes x taps x 16; output i of a channel is channel
// i * num_in + channel of the result.
extern "C" struct Depthwise {
  const float* weights;
  const float* bias;
  int32_t num_in, multiplier;
};

// kColumns neighbours of one row of the output, in one plane. rows: where the kernel's rows begin in the input.
template <int kSize, int kStride, int kColumns>
inline void convolve(const float* const* rows, const float* weights, __m512* sums) {
  for (int row = 0; row < kSize; ++row, weights += kSize * kLanes) {
    __m512 weight[kSize];
#pragma GCC unroll 8
    for (int tap = 0; tap < kSize; ++tap) weight[tap] = _mm512_loadu_ps(weights + tap * kLanes);
    // What is read serves all outputs that it reaches.
#pragma GCC unroll 32
    for (int column = 0; column < (kColumns - 1) * kStride + kSize; ++column) {
      const __m512 numbers = _mm512_loadu_ps(rows[row] + column * kLanes);
#pragma GCC unroll 8
      for (int tap = 0; tap < kSize; ++tap) {
        const int place = column - tap;
        if (place >= 0 && place % kStride == 0 && place / kStride < kColumns)
          sums[place / kStride] = _mm512_fmadd_ps(weight[tap], numbers, sums[place / kStride]);
      }
    }
  }
}

// A row of outputs in one plane: store(column, numbers) is given each.
template <int kSize, int kStride, typename Store>
void convolve_row(const float* const* rows, const float* weights, __m512 bias, int num_columns, const Store& store) {
  const auto at_once = [&](auto number, int first) {
    constexpr int kAtOnce = decltype(number)::value;
    const float* shifted[kSize];
    for (int row = 0; row < kSize; ++row) shifted[row] = rows[row] + static_cast<size_t>(first) * kStride * kLanes;
    __m512 sums[kAtOnce];
    std::fill(sums, sums + kAtOnce, bias);
    convolve<kSize, kStride, kAtOnce>(shifted, weights, sums);
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

// All outputs of an area: row_store(row, channel) is asked for what is given each of them, store(column, numbers); rows and
// columns are those of the area.
template <int kSize, int kStride, typename RowStore>
void convolve_area(const Depthwise& layer, const Map& map, const Area& area, const RowStore& row_store) {
  constexpr int kTaps = kSize * kSize;
  const size_t row_stride = map.row_stride(), plane_stride = map.plane_stride();
  const int num_columns = area.num_columns(), num_read = num_columns * kStride + kSize - 1;
  for (int part = 0; part < layer.multiplier; ++part) {
    for (int channel = 0; channel < layer.num_in; channel += kLanes) {
      const int output = part * layer.num_in + channel;
      const float* weights = layer.weights + static_cast<size_t>(output) * kTaps;
      const __m512 bias = _mm512_loadu_ps(layer.bias + output);
      const float* first = map.at(area.tile, channel, area.first_row * kStride - kSize / 2,
                                  area.first_column * kStride - kSize / 2);
      for (int row = 0; row < area.last_row - area.first_row; ++row, first += kStride * row_stride) {
        const float* rows[kSize];
        for (int tap = 0; tap < kSize; ++tap) rows[tap] = first + tap * row_stride;
        // The second row below, and the last of these rows in the next plane: too far away for the processor to guess.
        const float* last = rows[kSize - 1];
        for (int column = 0; column < num_read; ++column, last += kLanes) {
          _mm_prefetch(reinterpret_cast<const char*>(last + 2 * row_stride), _MM_HINT_T0);
          _mm_prefetch(reinterpret_cast<const char*>(last + plane_stride), _MM_HINT_T1);
        }
        convolve_row<kSize, kStride>(rows, weights, bias, num_columns, row_store(row, output));
      }
    }
  }
}

}  // namespace fastvlm
