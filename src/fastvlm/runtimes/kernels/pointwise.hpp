// Products of a few positions of a map with one matrix, on one thread, while their numbers are near; inputs are bfloat16,
// or eight bits with one scale for all of them that was measured before. And GELU, which most of them end in.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "matrices.hpp"

namespace fastvlm {

// One layer of 1 x 1. reach: how far from zero inputs go, in 8 bits; its scales are those of inputs and weights.
extern "C" struct Pointwise {
  Matrix matrix;
  const float* bias;
  float reach;
};

inline int input_bytes(const Pointwise& layer) { return layer.matrix.num_bits / 8; }

// 16 numbers in the form that a layer reads, at `index` of a row.
inline void take(const Pointwise& layer, __m512 numbers, uint8_t* row, int index) {
  if (layer.matrix.num_bits == 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 2 * index),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(numbers)));
    return;
  }
  // What reaches farther is as far as that.
  const __m512 farthest = _mm512_set1_ps(layer.reach), least = _mm512_sub_ps(_mm512_setzero_ps(), farthest);
  numbers = _mm512_max_ps(_mm512_min_ps(numbers, farthest), least);
  const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(numbers, _mm512_set1_ps(127.0f / layer.reach)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row + index), _mm512_cvtsepi32_epi8(whole));
}

// Where the sums of a row have to begin for what was added to the weights of eight bits to fall out.
inline int32_t start_of(const uint8_t* row, int num_in) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sums = _mm512_setzero_si512();
  for (int index = 0; index < num_in; index += 16) {
    const __m128i numbers = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + index));
    sums = _mm512_dpbusd_epi32(sums, ones, _mm512_zextsi128_si512(numbers));
  }
  return -128 * _mm512_reduce_add_epi32(sums);
}

inline __m512 gelu(__m512 x) {
  // Half the error function of x / sqrt(2), divided by x, as a polynomial of x * x that is nearest where GELU is.
  constexpr float kFactors[] = {3.988215812e-01f, -6.619512327e-02f, 9.722121329e-03f,  -1.080180429e-03f, 8.868833295e-05f,
                                -5.168315727e-06f, 1.998673595e-07f, -4.555544561e-09f, 4.600604404e-11f};
  const __m512 farthest = _mm512_set1_ps(4.2426405f);
  const __m512 near = _mm512_max_ps(_mm512_min_ps(x, farthest), _mm512_sub_ps(_mm512_setzero_ps(), farthest));
  const __m512 square = _mm512_mul_ps(near, near);
  __m512 sum = _mm512_set1_ps(kFactors[8]);
#pragma GCC unroll 8
  for (int index = 7; index >= 0; --index) sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(kFactors[index]));
  return _mm512_mul_ps(x, _mm512_fmadd_ps(near, sum, _mm512_set1_ps(0.5f)));
}

// Whole numbers of several rows with one panel of eight bits. Apart, as the compiler has no registers for more.
template <int kRows>
void tile_whole(const uint8_t* numbers, const uint8_t* x, int num_in, __m512i (*totals)[2]) {
  __m512i sums[kRows][2] = {};
  for (int quad = 0; quad < num_in / 4; ++quad, numbers += 128) {
    const __m512i low = _mm512_loadu_si512(numbers), high = _mm512_loadu_si512(numbers + 64);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const __m512i four = broadcast(x + static_cast<size_t>(row) * num_in + 4 * quad);
      sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], low, four);
      sums[row][1] = _mm512_dpbusd_epi32(sums[row][1], high, four);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
    totals[row][0] = sums[row][0];
    totals[row][1] = sums[row][1];
  }
}

template <int kRows>
void tile_pointwise(const Pointwise& layer, int panel, const uint8_t* x, const int32_t* starts, Sums* totals) {
  const int num_in = layer.matrix.num_in;
  const uint8_t* numbers = layer.matrix.numbers + panel * panel_bytes(layer.matrix);
  if (layer.matrix.num_bits == 16) {
    tile_16<kRows>(numbers, reinterpret_cast<const uint16_t*>(x), num_in, totals);
    return;
  }
  __m512i sums[kRows][2];
  tile_whole<kRows>(numbers, x, num_in, sums);
  const __m512 low = _mm512_loadu_ps(layer.matrix.scales + kPanel * panel);
  const __m512 high = _mm512_loadu_ps(layer.matrix.scales + kPanel * panel + 16);
  for (int row = 0; row < kRows; ++row) {
    const __m512i start = _mm512_set1_epi32(starts[row]);
    totals[row] = {_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[row][0], start)), low),
                   _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums[row][1], start)), high)};
  }
}

constexpr int kRowsOfPointwise = 12;

template <int kRows>
void any_tile_pointwise(int num_rows, const Pointwise& layer, int panel, const uint8_t* x, const int32_t* starts,
                        Sums* totals) {
  if (num_rows == kRows) return tile_pointwise<kRows>(layer, panel, x, starts, totals);
  if constexpr (kRows > 1) any_tile_pointwise<kRows - 1>(num_rows, layer, panel, x, starts, totals);
}

// Multiply rows, as `take` has made them: store(row, output, numbers) is given 16 outputs from `output` on, bias added.
template <typename Store>
void multiply_here(const Pointwise& layer, const uint8_t* rows, int num_rows, const Store& store) {
  const int num_out = layer.matrix.num_out;
  const size_t row_bytes = static_cast<size_t>(layer.matrix.num_in) * input_bytes(layer);
  thread_local std::vector<int32_t> starts;
  starts.resize(num_rows);
  if (layer.matrix.num_bits == 8)
    for (int row = 0; row < num_rows; ++row) starts[row] = start_of(rows + row * row_bytes, layer.matrix.num_in);
  for (int panel = 0; panel * kPanel < num_out; ++panel) {
    const __m512 bias[2] = {_mm512_loadu_ps(layer.bias + kPanel * panel),
                            _mm512_loadu_ps(layer.bias + kPanel * panel + 16)};
    const bool has_two = num_out - panel * kPanel > 16;
    for (int row = 0; row < num_rows; row += kRowsOfPointwise) {
      Sums totals[kRowsOfPointwise];
      const int count = std::min(kRowsOfPointwise, num_rows - row);
      any_tile_pointwise<kRowsOfPointwise>(count, layer, panel, rows + row * row_bytes, &starts[row], totals);
      for (int each = 0; each < count; ++each) {
        store(row + each, panel * kPanel, _mm512_add_ps(totals[each].low, bias[0]));
        if (has_two) store(row + each, panel * kPanel + 16, _mm512_add_ps(totals[each].high, bias[1]));
      }
    }
  }
}

}  // namespace fastvlm
