// Attention over a cache of keys and values in bfloat16, causal, with heads of queries that share keys and values.
//
// Keys lie as a matrix of 16 bits does, 16 positions at a time: for each 2 numbers, 16 positions x 2; and values 2
// positions at a time: for each number, 2 positions.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "matrices.hpp"
#include "threads.hpp"

namespace fastvlm {

constexpr int kPositions = 16;

// One conversation: positions that are held, and new rows behind them.
extern "C" struct Sequence {
  uint16_t* keys;    // layers x key heads x capacity x head_dim, in the order above
  uint16_t* values;  // layers x key heads x capacity x head_dim
  int32_t capacity, num_held, num_new;
};

struct Heads {
  int num_queries, num_keys, head_dim;
  int width() const { return (num_queries + 2 * num_keys) * head_dim; }
};

// Put the key of a position where it belongs.
inline void put_key(const float* key, uint16_t* keys, int position, int head_dim) {
  keys += static_cast<size_t>(position / kPositions) * kPositions * head_dim + 2 * (position % kPositions);
  for (int index = 0; index < head_dim; index += 16) {
    uint16_t numbers[16];
    to_bfloat16(key + index, numbers, 16);
    for (int each = 0; each < 16; ++each) keys[(index + each) / 2 * 2 * kPositions + each % 2] = numbers[each];
  }
}

// Put the value of a position where it belongs.
inline void put_value(const float* value, uint16_t* values, int position, int head_dim) {
  values += static_cast<size_t>(position / 2) * 2 * head_dim + position % 2;
  for (int index = 0; index < head_dim; index += 16) {
    uint16_t numbers[16];
    to_bfloat16(value + index, numbers, 16);
    for (int each = 0; each < 16; ++each) values[2 * (index + each)] = numbers[each];
  }
}

inline size_t cache_place(const Heads& heads, const Sequence& sequence, int layer, int head) {
  return (static_cast<size_t>(layer) * heads.num_keys + head) * sequence.capacity * heads.head_dim;
}

// Turn queries and keys of one new row by its angles, scale the queries, and put keys and values into the cache.
inline void take_in(const Heads& heads, const Sequence& sequence, int layer, int position, float* mixed,
                    const float* cosines, const float* sines) {
  const int head_dim = heads.head_dim, half = head_dim / 2;
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  for (int head = 0; head < heads.num_queries + heads.num_keys; ++head) {
    float* numbers = mixed + head * head_dim;
    const float factor = head < heads.num_queries ? scale : 1.0f;
    for (int index = 0; index < half; ++index) {
      const float first = numbers[index], second = numbers[index + half];
      numbers[index] = (first * cosines[index] - second * sines[index]) * factor;
      numbers[index + half] = (second * cosines[index] + first * sines[index]) * factor;
    }
  }
  const float* new_keys = mixed + heads.num_queries * head_dim;
  const float* new_values = new_keys + heads.num_keys * head_dim;
  for (int head = 0; head < heads.num_keys; ++head) {
    const size_t place = cache_place(heads, sequence, layer, head);
    put_key(new_keys + head * head_dim, sequence.keys + place, position, head_dim);
    put_value(new_values + head * head_dim, sequence.values + place, position, head_dim);
  }
}

constexpr int kQueries = 8;
constexpr int kLargestHead = 256;

// Scores of several queries, head_dim numbers each, with 16 positions.
template <int kRows>
void score(const uint16_t* keys, const uint16_t* queries, int head_dim, float* scores, size_t stride) {
  __m512 sums[kRows] = {};
  for (int pair = 0; pair < head_dim / 2; ++pair) {
    const auto both = reinterpret_cast<__m512bh>(_mm512_loadu_si512(keys + 2 * kPositions * pair));
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row)
      sums[row] = _mm512_dpbf16_ps(sums[row], both,
                                   reinterpret_cast<__m512bh>(broadcast(queries + row * head_dim + 2 * pair)));
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) _mm512_storeu_ps(scores + row * stride, sums[row]);
}

// Make scores below `limit` into shares, the largest of which is one, in bfloat16 and in the same place; those from there
// to `end` are nothing. Returns one through their sum.
inline float share_out(float* scores, int limit, int end) {
  uint16_t* shares = reinterpret_cast<uint16_t*>(scores);
  const auto mask = [&](int index) -> __mmask16 { return limit - index >= 16 ? 0xffff : (1u << (limit - index)) - 1; };
  __m512 largest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int index = 0; index < limit; index += 16)
    largest = _mm512_mask_max_ps(largest, mask(index), largest, _mm512_loadu_ps(scores + index));
  const __m512 reach = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
  __m512 sum = _mm512_setzero_ps();
  for (int index = 0; index < limit; index += 16) {
    const __m512 share =
        _mm512_maskz_mov_ps(mask(index), exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + index), reach)));
    sum = _mm512_add_ps(sum, share);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(shares + index),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(share)));
  }
  for (int index = (limit + 15) / 16 * 16; index < end; index += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(shares + index), _mm256_setzero_si256());
  return 1.0f / _mm512_reduce_add_ps(sum);
}

// What several queries make of values: those of each are shares, 16 numbers of kColumns x 16.
template <int kRows, int kColumns>
void mix(const uint16_t* values, int head_dim, const uint16_t* shares, size_t stride, int end, const float* inverses,
         float* const* targets) {
  __m512 sums[kRows][kColumns] = {};
  for (int position = 0; position < end; position += 2, values += 2 * head_dim) {
    __m512bh numbers[kColumns];
    for (int column = 0; column < kColumns; ++column)
      numbers[column] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(values + 32 * column));
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const auto share = reinterpret_cast<__m512bh>(broadcast(shares + row * stride + position));
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = _mm512_dpbf16_ps(sums[row][column], numbers[column], share);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column)
      _mm512_storeu_ps(targets[row] + 16 * column, _mm512_mul_ps(sums[row][column], _mm512_set1_ps(inverses[row])));
}

template <int kRows>
void any_score(int num_rows, const uint16_t* keys, const uint16_t* queries, int head_dim, float* scores,
               size_t stride) {
  if (num_rows == kRows) return score<kRows>(keys, queries, head_dim, scores, stride);
  if constexpr (kRows > 1) any_score<kRows - 1>(num_rows, keys, queries, head_dim, scores, stride);
}

template <int kRows, int kColumns>
void mix_columns(int num_rows, const uint16_t* values, int head_dim, const uint16_t* shares, size_t stride, int end,
                 const float* inverses, float* const* targets) {
  if (num_rows == kRows) return mix<kRows, kColumns>(values, head_dim, shares, stride, end, inverses, targets);
  if constexpr (kRows > 1)
    mix_columns<kRows - 1, kColumns>(num_rows, values, head_dim, shares, stride, end, inverses, targets);
}

constexpr int kRowsOfMix = 4;

inline void mix_all(int num_rows, const uint16_t* values, int head_dim, const uint16_t* shares, size_t stride, int end,
                    const float* inverses, float* const* targets) {
  float* shifted[kRowsOfMix];
  for (int column = 0; column < head_dim;) {
    for (int row = 0; row < num_rows; ++row) shifted[row] = targets[row] + column;
    const uint16_t* part = values + 2 * column;
    if (head_dim - column >= 64) {
      mix_columns<kRowsOfMix, 4>(num_rows, part, head_dim, shares, stride, end, inverses, shifted);
      column += 64;
    } else if (head_dim - column >= 32) {
      mix_columns<kRowsOfMix, 2>(num_rows, part, head_dim, shares, stride, end, inverses, shifted);
      column += 32;
    } else {
      mix_columns<kRowsOfMix, 1>(num_rows, part, head_dim, shares, stride, end, inverses, shifted);
      column += 16;
    }
  }
}

// Let several queries look at positions, all below their own limit. whole: all of them, filled up to 16; scores: room
// for so many of each query.
template <typename Limit>
void look(const uint16_t* keys, const uint16_t* values, const uint16_t* queries, int count, int head_dim, int whole,
          float* scores, float* const* targets, const Limit& limit) {
  for (int position = 0; position < whole; position += kPositions)
    any_score<kQueries>(count, keys + static_cast<size_t>(position) * head_dim, queries, head_dim, scores + position,
                        whole);
  int end = 0;
  float inverses[kQueries];
  for (int row = 0; row < count; ++row) {
    inverses[row] = share_out(scores + static_cast<size_t>(row) * whole, limit(row), whole);
    end = std::max(end, limit(row));
  }
  const uint16_t* shares = reinterpret_cast<const uint16_t*>(scores);
  const size_t stride = 2 * static_cast<size_t>(whole);
  for (int row = 0; row < count; row += kRowsOfMix)
    mix_all(std::min(kRowsOfMix, count - row), values, head_dim, shares + row * stride, stride, end, inverses + row,
            targets + row);
}

// Let the last `num_asking` new rows of a sequence look at all positions up to their own. mixed: the new rows' queries,
// keys and values, `take_in` done; outputs: num_asking x queries' width.
struct Looking {
  const Sequence* sequence;
  const float* mixed;
  float* outputs;
  int num_asking;
};

inline void attend(Threads& threads, const Heads& heads, int layer, const std::vector<Looking>& all) {
  const int group = heads.num_queries / heads.num_keys, head_dim = heads.head_dim;
  struct Part {
    const Looking* looking;
    int head, first, count;
  };
  int num_rows = 0;
  for (const auto& looking : all) num_rows += looking.num_asking * heads.num_queries;
  const int rows_at_once = std::clamp(num_rows / threads.count(), 1, kQueries);
  std::vector<Part> parts;
  for (const auto& looking : all)
    for (int head = 0; head < heads.num_keys; ++head)
      for (int first = 0; first < looking.num_asking * group; first += rows_at_once)
        parts.push_back({&looking, head, first, std::min(rows_at_once, looking.num_asking * group - first)});
  threads.run(static_cast<int>(parts.size()), [&](int index) {
    const Part& part = parts[index];
    const Looking& looking = *part.looking;
    const Sequence& sequence = *looking.sequence;
    const int first_asking = sequence.num_new - looking.num_asking;
    uint16_t queries[kQueries * kLargestHead];
    float* targets[kQueries];
    int limits[kQueries], end = 0;
    for (int row = 0; row < part.count; ++row) {
      const int asking = (part.first + row) / group, head = part.head * group + (part.first + row) % group;
      const float* query =
          looking.mixed + static_cast<size_t>(first_asking + asking) * heads.width() + head * head_dim;
      to_bfloat16(query, queries + row * head_dim, head_dim);
      targets[row] = looking.outputs + (static_cast<size_t>(asking) * heads.num_queries + head) * head_dim;
      limits[row] = sequence.num_held + first_asking + asking + 1;
      end = std::max(end, limits[row]);
    }
    const int whole = (end + kPositions - 1) / kPositions * kPositions;
    std::vector<float> scores(static_cast<size_t>(part.count) * whole);
    const size_t place = cache_place(heads, sequence, layer, part.head);
    look(sequence.keys + place, sequence.values + place, queries, part.count, head_dim, whole, scores.data(), targets,
         [&](int row) { return limits[row]; });
  });
}

}  // namespace fastvlm
