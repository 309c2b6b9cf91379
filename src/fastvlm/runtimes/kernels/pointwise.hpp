// Products of a few positions of a map with one matrix, on one thread, while their numbers are near; inputs are bfloat16,
// or eight bits with one scale for all of them that was measured before. And GELU, which most of them end in.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "matrices.hpp"

namespace fastvlm {

// One layer of 1 x 1. reach: how far from zero inputs go, in 8 bits; its scales are those of inputs and weights.
extern "C" struct Pointwise {
  Matrix matrix;
  const float* bias;
  float reach;
};

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

// Half the error function of x / sqrt(2), divided by x, as a polynomial of x * x; from `farthest` on it is 1 / (2 x).
template <int kTerms>
struct HalfError {
  float farthest, factors[kTerms];
};

template <int kTerms>
__m512 gelu_by(const HalfError<kTerms>& half_error, __m512 x) {
  const __m512 farthest = _mm512_set1_ps(half_error.farthest);
  const __m512 near = _mm512_max_ps(_mm512_min_ps(x, farthest), _mm512_sub_ps(_mm512_setzero_ps(), farthest));
  const __m512 square = _mm512_mul_ps(near, near);
  __m512 sum = _mm512_set1_ps(half_error.factors[kTerms - 1]);
#pragma GCC unroll 8
  for (int term = kTerms - 2; term >= 0; --term)
    sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(half_error.factors[term]));
  return _mm512_mul_ps(x, _mm512_fmadd_ps(near, sum, _mm512_set1_ps(0.5f)));
}

// GELU, off by 5e-5 at most up to 10, and by 5e-6 of what is farther from zero.
inline __m512 gelu(__m512 x) {
  constexpr HalfError<9> kHalfError = {
      4.2426405f,
      {3.988215812e-01f, -6.619512327e-02f, 9.722121329e-03f, -1.080180429e-03f, 8.868833295e-05f, -5.168315727e-06f,
       1.998673595e-07f, -4.555544561e-09f, 4.600604404e-11f}};
  return gelu_by(kHalfError, x);
}

// The form in which a layer of so many bits reads numbers; made once for many, as what is written could be the layer itself
// for all that the compiler knows.
template <int kBits>
class Form;

template <>
class Form<16> {
 public:
  explicit Form(const Pointwise&) {}

  // 16 numbers, at `index` of a row.
  void take(__m512 numbers, uint8_t* row, int index) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + 2 * index),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(numbers)));
  }

  void take_gelu(__m512 x, uint8_t* row, int index) const { take(gelu(x), row, index); }
};

template <>
class Form<8> {
 public:
  explicit Form(const Pointwise& layer)
      : farthest_(_mm512_set1_ps(layer.reach)), steps_(_mm512_set1_ps(127.0f / layer.reach)) {}

  void take(__m512 numbers, uint8_t* row, int index) const {
    // What reaches farther is as far as that.
    const __m512 least = _mm512_sub_ps(_mm512_setzero_ps(), farthest_);
    numbers = _mm512_max_ps(_mm512_min_ps(numbers, farthest_), least);
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(numbers, steps_));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row + index), _mm512_cvtsepi32_epi8(whole));
  }

  // Off by 5e-4 at most: a small part of a step, which is a 127th of how far numbers reach.
  void take_gelu(__m512 x, uint8_t* row, int index) const {
    constexpr HalfError<6> kHalfError = {
        3.65f,
        {3.965301812e-01f, -6.265398115e-02f, 7.873856463e-03f, -6.215858739e-04f, 2.718498945e-05f, -4.978675179e-07f}};
    take(gelu_by(kHalfError, x), row, index);
  }

 private:
  __m512 farthest_, steps_;
};

// The outputs of a panel in one row, of a layer of eight bits before they are scaled.
struct Whole {
  __m512i low, high;
};

template <int kBits>
using ProductsOf = std::conditional_t<kBits == 8, Whole, Sums>;

// Several rows with one panel of eight bits. Apart, as the compiler has no registers for more.
template <int kRows>
void tile_whole(const uint8_t* numbers, const uint8_t* x, int num_in, const int32_t* starts, Whole* products) {
  __m512i sums[kRows][2];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) sums[row][0] = sums[row][1] = _mm512_set1_epi32(starts[row]);
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
  for (int row = 0; row < kRows; ++row) products[row] = {sums[row][0], sums[row][1]};
}

template <int kBits, int kRows>
void tile_pointwise(const Pointwise& layer, int panel, const uint8_t* x, const int32_t* starts,
                    ProductsOf<kBits>* products) {
  const int num_in = layer.matrix.num_in;
  const uint8_t* numbers = layer.matrix.numbers + panel * panel_bytes(layer.matrix);
  if constexpr (kBits == 8) {
    tile_whole<kRows>(numbers, x, num_in, starts, products);
  } else {
    tile_16<kRows>(numbers, reinterpret_cast<const uint16_t*>(x), num_in, products);
  }
}

// What makes 16 outputs of products.
template <int kBits>
struct Scaling {
  __m512 scale, bias;

  Scaling(const Pointwise& layer, int output) : bias(_mm512_loadu_ps(layer.bias + output)) {
    if constexpr (kBits == 8) scale = _mm512_loadu_ps(layer.matrix.scales + output);
  }

  __m512 operator()(__m512i products) const { return _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, bias); }
  __m512 operator()(__m512 products) const { return _mm512_add_ps(products, bias); }
};

constexpr int kRowsOfPointwise = 12;

template <int kBits, int kRows>
void any_tile_pointwise(int num_rows, const Pointwise& layer, int panel, const uint8_t* x, const int32_t* starts,
                        ProductsOf<kBits>* products) {
  if (num_rows == kRows) return tile_pointwise<kBits, kRows>(layer, panel, x, starts, products);
  if constexpr (kRows > 1) any_tile_pointwise<kBits, kRows - 1>(num_rows, layer, panel, x, starts, products);
}

// Multiply rows, as a form has made them: store(row, output, numbers) is given 16 outputs from `output` on, bias added.
template <int kBits, typename Store>
void multiply_here(const Pointwise& layer, const uint8_t* rows, int num_rows, const Store& store) {
  const int num_out = layer.matrix.num_out;
  const size_t row_bytes = static_cast<size_t>(layer.matrix.num_in) * (kBits / 8);
  thread_local std::vector<int32_t> starts;
  starts.resize(num_rows);
  if constexpr (kBits == 8)
    for (int row = 0; row < num_rows; ++row) starts[row] = start_of(rows + row * row_bytes, layer.matrix.num_in);
  for (int panel = 0; panel * kPanel < num_out; ++panel) {
    const int output = panel * kPanel;
    const Scaling<kBits> low(layer, output), high(layer, output + 16);
    const bool has_two = num_out - output > 16;
    for (int row = 0; row < num_rows; row += kRowsOfPointwise) {
      ProductsOf<kBits> products[kRowsOfPointwise];
      const int count = std::min(kRowsOfPointwise, num_rows - row);
      any_tile_pointwise<kBits, kRowsOfPointwise>(count, layer, panel, rows + row * row_bytes, &starts[row], products);
      for (int each = 0; each < count; ++each) {
        store(row + each, output, low(products[each].low));
        if (has_two) store(row + each, output + 16, high(products[each].high));
      }
    }
  }
}

}  // namespace fastvlm
