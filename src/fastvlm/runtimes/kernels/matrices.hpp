// Products with matrices that are packed in panels of 32 outputs, in the order in which they are read.
//
// A panel holds, one after the other,
//   16 bits: for each 2 inputs, 32 outputs x 2 inputs in bfloat16;
//    8 bits: for each 4 inputs, 32 outputs x 4 inputs, plus 128;
//    4 bits: for each 64 inputs, 32 shares of the output's scale in float16, then for each 8 inputs two rows of 16 outputs:
//            64 bytes whose lower halves are the first 4 inputs and whose upper halves the other 4, plus 8.
// In eight and four bits inputs are rounded to eight bits too, 64 at a time with a scale of their own.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "threads.hpp"

namespace fastvlm {

constexpr int kPanel = 32;
constexpr int kGroup = 64;
constexpr size_t kGroupBytes = 2 * kPanel + kPanel * kGroup / 2;

extern "C" struct Matrix {
  const uint8_t* numbers;
  const float* scales;  // one for each output; null in 16 bits
  int32_t num_out, num_in;
  int32_t num_bits;
};

inline size_t panel_bytes(const Matrix& matrix) {
  if (matrix.num_bits == 4) return static_cast<size_t>(matrix.num_in / kGroup) * kGroupBytes;
  return static_cast<size_t>(matrix.num_in) * kPanel * (matrix.num_bits / 8);
}

// Rows of numbers as a matrix reads them: in bfloat16, or in eight bits with, for each group of 64, a scale and where a
// sum of products has to begin for what was added to the weights to fall out.
struct Inputs {
  std::vector<uint16_t> wide;
  std::vector<int8_t> numbers;
  std::vector<float> scales;
  std::vector<int32_t> starts;
};

inline __m512 exponential(__m512 x) {
  const __m512 scaled = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 whole = _mm512_roundscale_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 rest = _mm512_mul_ps(_mm512_sub_ps(scaled, whole), _mm512_set1_ps(0.69314718f));
  __m512 sum = _mm512_set1_ps(1.0f / 720);
  for (float factor : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(factor));
  return _mm512_scalef_ps(sum, whole);
}

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

inline __m512i broadcast(const void* four_bytes) {
  int32_t value;
  __builtin_memcpy(&value, four_bytes, sizeof value);
  return _mm512_set1_epi32(value);
}

inline void to_bfloat16(const float* source, uint16_t* target, int count) {
  for (int index = 0; index < count; index += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + index),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(source + index))));
}

inline void round_group(const float* source, int8_t* target, float* scale, int32_t* start, int added) {
  __m512 x[4], reach = _mm512_set1_ps(1e-12f);
  for (int part = 0; part < 4; ++part) {
    x[part] = _mm512_loadu_ps(source + 16 * part);
    reach = _mm512_max_ps(reach, _mm512_abs_ps(x[part]));
  }
  const float largest = _mm512_reduce_max_ps(reach);
  const __m512 factor = _mm512_set1_ps(127.0f / largest);
  __m512i sum = _mm512_setzero_si512();
  for (int part = 0; part < 4; ++part) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(x[part], factor));
    sum = _mm512_add_epi32(sum, whole);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 16 * part), _mm512_cvtepi32_epi8(whole));
  }
  *scale = largest / 127.0f;
  *start = -added * _mm512_reduce_add_epi32(sum);
}

// Bring rows, num_rows x num_in, into the form that a matrix reads; where norm is given, scale each row to a root mean
// square of one and by norm first.
inline void prepare(Threads& threads, Inputs& inputs, const Matrix& matrix, const float* rows, int num_rows,
                    const float* norm, float epsilon) {
  const int num_in = matrix.num_in, num_groups = num_in / kGroup;
  const bool is_wide = matrix.num_bits == 16;
  const auto room = [](auto& values, size_t size) {
    if (values.size() < size) values.resize(size);
  };
  const size_t size = static_cast<size_t>(num_rows) * num_in;
  if (is_wide) {
    room(inputs.wide, size);
  } else {
    room(inputs.numbers, size);
    room(inputs.scales, size / kGroup);
    room(inputs.starts, size / kGroup);
  }
  constexpr int kRowsAtOnce = 8;
  threads.run((num_rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](int part) {
    std::vector<float> normed(norm ? num_in : 0);
    for (int row = part * kRowsAtOnce; row < std::min(num_rows, (part + 1) * kRowsAtOnce); ++row) {
      const float* source = rows + static_cast<size_t>(row) * num_in;
      if (norm) {
        __m512 sum = _mm512_setzero_ps();
        for (int index = 0; index < num_in; index += 16) {
          const __m512 x = _mm512_loadu_ps(source + index);
          sum = _mm512_fmadd_ps(x, x, sum);
        }
        const __m512 inverse = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(sum) / num_in + epsilon));
        for (int index = 0; index < num_in; index += 16)
          _mm512_storeu_ps(&normed[index], _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(source + index), inverse),
                                                         _mm512_loadu_ps(norm + index)));
        source = normed.data();
      }
      if (is_wide) {
        to_bfloat16(source, &inputs.wide[static_cast<size_t>(row) * num_in], num_in);
        continue;
      }
      for (int group = 0; group < num_groups; ++group) {
        const size_t place = static_cast<size_t>(row) * num_groups + group;
        round_group(source + group * kGroup, &inputs.numbers[place * kGroup], &inputs.scales[place],
                    &inputs.starts[place], matrix.num_bits == 8 ? 128 : 8);
      }
    }
  });
}

struct Sums {
  __m512 low, high;
};

// One row with one panel. Memory is slower than a sum, so nothing is gained by adding up in another order than where
// several rows are read: a row has the same numbers whoever else is asked for.
inline Sums dot_16(const uint8_t* panel, const uint16_t* x, int num_in) {
  __m512 sums[2] = {};
  for (int pair = 0; pair < num_in / 2; ++pair, panel += 128) {
    const auto both = reinterpret_cast<__m512bh>(broadcast(x + 2 * pair));
    for (int half = 0; half < 2; ++half) {
      const __m512i numbers = _mm512_loadu_si512(panel + 64 * half);
      sums[half] = _mm512_dpbf16_ps(sums[half], reinterpret_cast<__m512bh>(numbers), both);
    }
  }
  return {sums[0], sums[1]};
}

inline Sums dot_8(const uint8_t* panel, const int8_t* x, const float* scales, const int32_t* starts, int num_in) {
  __m512 totals[2] = {};
  for (int group = 0; group < num_in / kGroup; ++group, x += kGroup, panel += kPanel * kGroup) {
    __m512i sums[2][2] = {};
    sums[0][0] = sums[0][1] = _mm512_set1_epi32(starts[group]);
    for (int quad = 0; quad < kGroup / 4; ++quad) {
      const __m512i four = broadcast(x + 4 * quad);
      for (int half = 0; half < 2; ++half)
        sums[quad % 2][half] = _mm512_dpbusd_epi32(
            sums[quad % 2][half], _mm512_loadu_si512(panel + 128 * quad + 64 * half), four);
    }
    const __m512 scale = _mm512_set1_ps(scales[group]);
    for (int half = 0; half < 2; ++half)
      totals[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[0][half], sums[1][half])), scale,
                                     totals[half]);
  }
  return {totals[0], totals[1]};
}

inline __m512 shares(const uint8_t* group, int half) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(group + 32 * half)));
}

inline Sums dot_4(const uint8_t* panel, const int8_t* x, const float* scales, const int32_t* starts, int num_in) {
  const __m512i lower = _mm512_set1_epi8(15);
  __m512 totals[2] = {};
  for (int group = 0; group < num_in / kGroup; ++group, x += kGroup, panel += kGroupBytes) {
    __m512i sums[2][2] = {};
    sums[0][0] = sums[0][1] = _mm512_set1_epi32(starts[group]);
    const uint8_t* numbers = panel + 2 * kPanel;
    for (int eight = 0; eight < kGroup / 8; ++eight) {
      const __m512i first = broadcast(x + 8 * eight), second = broadcast(x + 8 * eight + 4);
      for (int half = 0; half < 2; ++half) {
        const __m512i both = _mm512_loadu_si512(numbers + 128 * eight + 64 * half);
        sums[0][half] = _mm512_dpbusd_epi32(sums[0][half], _mm512_and_si512(both, lower), first);
        sums[1][half] =
            _mm512_dpbusd_epi32(sums[1][half], _mm512_and_si512(_mm512_srli_epi16(both, 4), lower), second);
      }
    }
    for (int half = 0; half < 2; ++half)
      totals[half] = _mm512_fmadd_ps(
          _mm512_cvtepi32_ps(_mm512_add_epi32(sums[0][half], sums[1][half])),
          _mm512_mul_ps(shares(panel, half), _mm512_set1_ps(scales[group])), totals[half]);
  }
  return {totals[0], totals[1]};
}

// Several rows with one panel, whose sums all stay in registers.
template <int kRows>
void tile_16(const uint8_t* panel, const uint16_t* x, int num_in, Sums* totals) {
  __m512 sums[kRows][2] = {};
  for (int pair = 0; pair < num_in / 2; ++pair, panel += 128) {
    const auto low = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel));
    const auto high = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + 64));
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const auto both = reinterpret_cast<__m512bh>(broadcast(x + static_cast<size_t>(row) * num_in + 2 * pair));
      sums[row][0] = _mm512_dpbf16_ps(sums[row][0], low, both);
      sums[row][1] = _mm512_dpbf16_ps(sums[row][1], high, both);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) totals[row] = {sums[row][0], sums[row][1]};
}

// Shares: of a matrix in four bits, unpacked; else null.
template <int kRows>
void tile_8(const uint8_t* panel, const float* share, const int8_t* x, const float* scales, const int32_t* starts,
            int num_in, Sums* totals) {
  const int num_groups = num_in / kGroup;
  __m512 wide[kRows][2] = {};
  for (int group = 0; group < num_groups; ++group) {
    __m512i sums[kRows][2];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row)
      sums[row][0] = sums[row][1] = _mm512_set1_epi32(starts[row * num_groups + group]);
    for (int quad = 0; quad < kGroup / 4; ++quad, panel += 128) {
      const __m512i low = _mm512_loadu_si512(panel), high = _mm512_loadu_si512(panel + 64);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        const __m512i four = broadcast(x + static_cast<size_t>(row) * num_in + group * kGroup + 4 * quad);
        sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], low, four);
        sums[row][1] = _mm512_dpbusd_epi32(sums[row][1], high, four);
      }
    }
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const __m512 scale = _mm512_set1_ps(scales[row * num_groups + group]);
      for (int half = 0; half < 2; ++half) {
        const __m512 factor =
            share ? _mm512_mul_ps(scale, _mm512_loadu_ps(share + kPanel * group + 16 * half)) : scale;
        wide[row][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[row][half]), factor, wide[row][half]);
      }
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) totals[row] = {wide[row][0], wide[row][1]};
}

// Four bits as eight, in the order of a matrix of eight, and the shares apart.
inline void unpack(const uint8_t* panel, int num_in, uint8_t* numbers, float* share) {
  const __m512i lower = _mm512_set1_epi8(15);
  for (int group = 0; group < num_in / kGroup; ++group, panel += kGroupBytes, share += kPanel) {
    for (int half = 0; half < 2; ++half) _mm512_storeu_ps(share + 16 * half, shares(panel, half));
    for (int eight = 0; eight < kGroup / 8; ++eight, numbers += 256) {
      for (int half = 0; half < 2; ++half) {
        const __m512i both = _mm512_loadu_si512(panel + 2 * kPanel + 128 * eight + 64 * half);
        _mm512_storeu_si512(numbers + 64 * half, _mm512_and_si512(both, lower));
        _mm512_storeu_si512(numbers + 128 + 64 * half, _mm512_and_si512(_mm512_srli_epi16(both, 4), lower));
      }
    }
  }
}

constexpr int kRowsOf16 = 12, kRowsOf8 = 6;

template <int kRows>
void any_tile_16(int num_rows, const uint8_t* panel, const uint16_t* x, int num_in, Sums* totals) {
  if (num_rows == kRows) return tile_16<kRows>(panel, x, num_in, totals);
  if constexpr (kRows > 1) any_tile_16<kRows - 1>(num_rows, panel, x, num_in, totals);
}

template <int kRows>
void any_tile_8(int num_rows, const uint8_t* panel, const float* share, const int8_t* x, const float* scales,
                const int32_t* starts, int num_in, Sums* totals) {
  if (num_rows == kRows) return tile_8<kRows>(panel, share, x, scales, starts, num_in, totals);
  if constexpr (kRows > 1) any_tile_8<kRows - 1>(num_rows, panel, share, x, scales, starts, num_in, totals);
}

// Multiply rows by a matrix: store(row, panel, sums) is given the 2 x 16 outputs of a panel.
template <typename Store>
void multiply(Threads& threads, const Matrix& matrix, const Inputs& inputs, int num_rows, const Store& store) {
  const int num_in = matrix.num_in, num_groups = num_in / kGroup;
  const int num_panels = (matrix.num_out + kPanel - 1) / kPanel;
  const int panels_at_once = std::max(1, num_panels / (8 * threads.count()));
  const auto finish = [&](int row, int panel, Sums sums) {
    if (matrix.scales) {
      sums.low = _mm512_mul_ps(sums.low, _mm512_loadu_ps(matrix.scales + panel * kPanel));
      sums.high = _mm512_mul_ps(sums.high, _mm512_loadu_ps(matrix.scales + panel * kPanel + 16));
    }
    store(row, panel, sums);
  };
  const auto one_row = [&](const uint8_t* panel) {
    if (matrix.num_bits == 16) return dot_16(panel, inputs.wide.data(), num_in);
    const auto dot = matrix.num_bits == 8 ? dot_8 : dot_4;
    return dot(panel, inputs.numbers.data(), inputs.scales.data(), inputs.starts.data(), num_in);
  };
  threads.run((num_panels + panels_at_once - 1) / panels_at_once, [&](int part) {
    std::vector<uint8_t> unpacked;
    std::vector<float> share;
    if (matrix.num_bits == 4 && num_rows > 1) {
      unpacked.resize(static_cast<size_t>(kPanel) * num_in);
      share.resize(static_cast<size_t>(kPanel) * num_groups);
    }
    const int end = std::min(num_panels, (part + 1) * panels_at_once);
    for (int index = part * panels_at_once; index < end; ++index) {
      const uint8_t* panel = matrix.numbers + index * panel_bytes(matrix);
      if (num_rows == 1) {
        finish(0, index, one_row(panel));
        continue;
      }
      if (!unpacked.empty()) {
        unpack(panel, num_in, unpacked.data(), share.data());
        panel = unpacked.data();
      }
      const int rows_at_once = matrix.num_bits == 16 ? kRowsOf16 : kRowsOf8;
      for (int row = 0; row < num_rows; row += rows_at_once) {
        Sums totals[kRowsOf16];
        const int count = std::min(rows_at_once, num_rows - row);
        const size_t place = static_cast<size_t>(row) * num_groups;
        if (matrix.num_bits == 16)
          any_tile_16<kRowsOf16>(count, panel, &inputs.wide[static_cast<size_t>(row) * num_in], num_in, totals);
        else
          any_tile_8<kRowsOf8>(count, panel, share.empty() ? nullptr : share.data(),
                               &inputs.numbers[place * kGroup], &inputs.scales[place], &inputs.starts[place], num_in,
                               totals);
        for (int each = 0; each < count; ++each) finish(row + each, index, totals[each]);
      }
    }
  });
}

}  // namespace fastvlm
