// A decoder of the kind of Qwen2 and Llama, prompts and single words alike, on processors whose vectors multiply bfloat16
// (AVX512_BF16) and eight bits (AVX512_VNNI). Its weights are packed by `packing`.
#include <cstring>
#include <memory>

#include "attention.hpp"
#include "decoder.hpp"
#include "matrices.hpp"
#include "threads.hpp"

namespace fastvlm {

struct Decoder {
  DecoderShape shape;
  std::vector<Layer> layers;
  const float* norm;
  Matrix head;
  Threads threads;

  Decoder(const DecoderShape& shape, const Layer* layers, const float* norm, Matrix head, int num_threads)
      : shape(shape), layers(layers, layers + shape.num_layers), norm(norm), head(head), threads(num_threads) {}
};

namespace {

// What one caller needs beside the weights. All rows of all sequences stand one below the other.
class Reading {
 public:
  Reading(Decoder& decoder, const Sequence* sequences, int num_sequences, const float* cosines, const float* sines)
      : decoder_(decoder),
        shape_(decoder.shape),
        heads_{shape_.num_heads, shape_.num_key_value_heads, shape_.head_dim},
        sequences_(sequences, sequences + num_sequences),
        cosines_(cosines),
        sines_(sines) {
    for (const auto& sequence : sequences_)
      for (int index = 0; index < sequence.num_new; ++index) places_.push_back({&sequence, sequence.num_held + index});
    num_rows_ = static_cast<int>(places_.size());
  }

  void read(const float* embeddings, float* logits) {
    rows_.assign(embeddings, embeddings + static_cast<size_t>(num_rows_) * shape_.width);
    mixed_.resize(static_cast<size_t>(num_rows_) * heads_.width());
    looked_.resize(static_cast<size_t>(num_rows_) * heads_.num_queries * heads_.head_dim);
    in_blocks([&](auto& workers, Block block, Scratch& scratch) { enter(workers, 0, block, scratch); });
    for (int layer = 0; layer < shape_.num_layers; ++layer) {
      const bool is_last = layer + 1 == shape_.num_layers;
      // What the last layer makes of earlier positions nobody reads.
      look(layer, is_last);
      in_blocks([&](auto& workers, Block block, Scratch& scratch) {
        leave(workers, layer, block, scratch);
        if (!is_last) enter(workers, layer + 1, block, scratch);
      });
    }
    Inputs& inputs = scratch_.inputs;
    prepare(decoder_.threads, inputs, decoder_.head, rows_.data(), num_rows_, decoder_.norm, shape_.norm_epsilon);
    const int size = shape_.vocabulary_size;
    multiply(decoder_.threads, decoder_.head, inputs, num_rows_, [&](int row, int panel, Sums sums) {
      float* target = logits + static_cast<size_t>(row) * size + panel * kPanel;
      store(target, sums.low, size - panel * kPanel);
      store(target + 16, sums.high, size - panel * kPanel - 16);
    });
  }

 private:
  static void store(float* target, __m512 numbers, int room) {
    if (room >= 16) _mm512_storeu_ps(target, numbers);
    else if (room > 0) _mm512_mask_storeu_ps(target, (1u << room) - 1, numbers);
  }

  // Rows one below the other.
  struct Block {
    int first, count;
  };

  // What is made of a block on its way.
  struct Scratch {
    Inputs inputs;
    std::vector<float> hidden;
  };

  // Do what concerns each row for itself: where there are many, each thread takes blocks of them through all layers until
  // rows look at each other, as they stay near; few rows are read together, as memory is slower than their sums.
  template <typename Work>
  void in_blocks(const Work& work) {
    constexpr int kMost = 152, kManyEach = 96;  // rows of a block, and rows for each thread
    auto& threads = decoder_.threads;
    if (num_rows_ < kManyEach * threads.count()) return work(threads, {0, num_rows_}, scratch_);
    const int most = kMost * threads.count(), num_blocks = (num_rows_ + most - 1) / most * threads.count();
    threads.run(num_blocks, [&](int index) {
      thread_local Scratch scratch;
      Alone alone;
      const int first = num_rows_ * index / num_blocks;
      work(alone, {first, num_rows_ * (index + 1) / num_blocks - first}, scratch);
    });
  }

  float* row_of(std::vector<float>& values, int row, int width) { return &values[static_cast<size_t>(row) * width]; }

  // Queries, keys and values of a layer, turned, and keys and values in their caches.
  template <typename Workers>
  void enter(Workers& workers, int index, Block block, Scratch& scratch) {
    const Layer& layer = decoder_.layers[index];
    prepare(workers, scratch.inputs, layer.mixed, row_of(rows_, block.first, shape_.width), block.count,
            layer.attention_norm, shape_.norm_epsilon);
    const int width = heads_.width();
    float* mixed = row_of(mixed_, block.first, width);
    const float* bias = layer.mixed_bias;
    multiply(workers, layer.mixed, scratch.inputs, block.count, [=](int row, int panel, Sums sums) {
      float* target = mixed + static_cast<size_t>(row) * width + panel * kPanel;
      if (bias) {
        sums.low = _mm512_add_ps(sums.low, _mm512_loadu_ps(bias + panel * kPanel));
        sums.high = _mm512_add_ps(sums.high, _mm512_loadu_ps(bias + panel * kPanel + 16));
      }
      _mm512_storeu_ps(target, sums.low);
      _mm512_storeu_ps(target + 16, sums.high);
    });
    constexpr int kRowsAtOnce = 8;
    workers.run((block.count + kRowsAtOnce - 1) / kRowsAtOnce, [&](int part) {
      for (int row = part * kRowsAtOnce; row < std::min(block.count, (part + 1) * kRowsAtOnce); ++row) {
        const Place& place = places_[block.first + row];
        const size_t angle = static_cast<size_t>(block.first + row) * (heads_.head_dim / 2);
        take_in(heads_, *place.sequence, index, place.position, mixed + static_cast<size_t>(row) * width,
                cosines_ + angle, sines_ + angle);
      }
    });
  }

  // The rest of a layer, from what rows have seen in each other.
  template <typename Workers>
  void leave(Workers& workers, int index, Block block, Scratch& scratch) {
    const Layer& layer = decoder_.layers[index];
    Inputs& inputs = scratch.inputs;
    float* rows = row_of(rows_, block.first, shape_.width);
    prepare(workers, inputs, layer.output, row_of(looked_, block.first, heads_.num_queries * heads_.head_dim),
            block.count, nullptr, 0);
    add_to(workers, rows, layer.output, inputs, block.count);
    prepare(workers, inputs, layer.gate_and_up, rows, block.count, layer.feed_forward_norm, shape_.norm_epsilon);
    const int width = shape_.feed_forward_width;
    const size_t size = static_cast<size_t>(block.count) * width;
    if (scratch.hidden.size() < size) scratch.hidden.resize(size);
    float* hidden = scratch.hidden.data();
    multiply(workers, layer.gate_and_up, inputs, block.count, [=](int row, int panel, Sums sums) {
      const __m512 gated = _mm512_mul_ps(_mm512_mul_ps(sums.low, sigmoid(sums.low)), sums.high);
      _mm512_storeu_ps(hidden + static_cast<size_t>(row) * width + panel * 16, gated);
    });
    prepare(workers, inputs, layer.down, hidden, block.count, nullptr, 0);
    add_to(workers, rows, layer.down, inputs, block.count);
  }

  template <typename Workers>
  void add_to(Workers& workers, float* rows, const Matrix& matrix, const Inputs& inputs, int num_rows) {
    const int width = shape_.width;
    multiply(workers, matrix, inputs, num_rows, [=](int row, int panel, Sums sums) {
      float* target = rows + static_cast<size_t>(row) * width + panel * kPanel;
      _mm512_storeu_ps(target, _mm512_add_ps(_mm512_loadu_ps(target), sums.low));
      _mm512_storeu_ps(target + 16, _mm512_add_ps(_mm512_loadu_ps(target + 16), sums.high));
    });
  }

  // Let all rows look at those before them, or the last of each sequence only, which are all that is left then.
  void look(int layer, bool is_last) {
    std::vector<Looking> all;
    size_t row = 0, asked = 0;
    std::vector<float> kept;
    for (const auto& sequence : sequences_) {
      const int num_asking = is_last ? 1 : sequence.num_new;
      all.push_back({&sequence, &mixed_[row * heads_.width()],
                     &looked_[asked * heads_.num_queries * heads_.head_dim], num_asking});
      row += sequence.num_new;
      asked += num_asking;
      if (is_last) kept.insert(kept.end(), &rows_[(row - 1) * shape_.width], &rows_[(row - 1) * shape_.width] + shape_.width);
    }
    attend(decoder_.threads, heads_, layer, all);
    if (is_last) {
      rows_ = std::move(kept);
      num_rows_ = static_cast<int>(sequences_.size());
    }
  }

  // Where a row belongs.
  struct Place {
    const Sequence* sequence;
    int position;
  };

  Decoder& decoder_;
  const DecoderShape& shape_;
  const Heads heads_;
  const std::vector<Sequence> sequences_;
  const float *cosines_, *sines_;
  int num_rows_;
  std::vector<Place> places_;
  Scratch scratch_;
  std::vector<float> rows_, mixed_, looked_;
};

}  // namespace

extern "C" {

// All pointers must stay what they are until the decoder is closed. Null: there was no memory, or no thread.
void* fastvlm_open_decoder(const DecoderShape* shape, const Layer* layers, const float* norm, Matrix head,
                           int32_t num_threads) {
  try {
    return new Decoder(*shape, layers, norm, head, num_threads);
  } catch (...) {
    return nullptr;
  }
}

void fastvlm_close_decoder(void* decoder) { delete static_cast<Decoder*>(decoder); }

// Read the new rows of some sequences, one below the other: embeddings rows x width, cosines and sines rows x
// head_dim / 2. Fills the caches and gives the logits after each sequence's last row. Not zero: there was no memory.
int32_t fastvlm_read(void* decoder, const Sequence* sequences, int32_t num_sequences, const float* embeddings,
                     const float* cosines, const float* sines, float* logits) {
  try {
    Reading(*static_cast<Decoder*>(decoder), sequences, num_sequences, cosines, sines).read(embeddings, logits);
    return 0;
  } catch (...) {
    return 1;
  }
}

}  // extern "C"

}  // namespace fastvlm
