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
    for (const auto& sequence : sequences_) num_rows_ += sequence.num_new;
  }

  void read(const float* embeddings, float* logits) {
    rows_.assign(embeddings, embeddings + static_cast<size_t>(num_rows_) * shape_.width);
    for (int layer = 0; layer < shape_.num_layers; ++layer) step(layer);
    prepare(decoder_.threads, inputs_, decoder_.head, rows_.data(), num_rows_, decoder_.norm, shape_.norm_epsilon);
    const int size = shape_.vocabulary_size;
    multiply(decoder_.threads, decoder_.head, inputs_, num_rows_, [&](int row, int panel, Sums sums) {
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

  void step(int index) {
    const Layer& layer = decoder_.layers[index];
    auto& threads = decoder_.threads;
    prepare(threads, inputs_, layer.mixed, rows_.data(), num_rows_, layer.attention_norm, shape_.norm_epsilon);
    to_rows(layer.mixed, mixed_, layer.mixed_bias);
    // What the last layer makes of earlier positions nobody reads.
    look(index, index + 1 == shape_.num_layers);
    prepare(threads, inputs_, layer.output, looked_.data(), num_rows_, nullptr, 0);
    add_to_rows(layer.output);
    prepare(threads, inputs_, layer.gate_and_up, rows_.data(), num_rows_, layer.feed_forward_norm,
            shape_.norm_epsilon);
    const int width = shape_.feed_forward_width;
    room(hidden_, width);
    multiply(threads, layer.gate_and_up, inputs_, num_rows_, [&](int row, int panel, Sums sums) {
      const __m512 gated = _mm512_mul_ps(_mm512_mul_ps(sums.low, sigmoid(sums.low)), sums.high);
      _mm512_storeu_ps(&hidden_[static_cast<size_t>(row) * width + panel * 16], gated);
    });
    prepare(threads, inputs_, layer.down, hidden_.data(), num_rows_, nullptr, 0);
    add_to_rows(layer.down);
  }

  void room(std::vector<float>& values, int width) {
    const size_t size = static_cast<size_t>(num_rows_) * width;
    if (values.size() < size) values.resize(size);
  }

  void to_rows(const Matrix& matrix, std::vector<float>& target, const float* bias) {
    const int width = matrix.num_out;
    room(target, width);
    multiply(decoder_.threads, matrix, inputs_, num_rows_, [&](int row, int panel, Sums sums) {
      float* place = &target[static_cast<size_t>(row) * width + panel * kPanel];
      if (bias) {
        sums.low = _mm512_add_ps(sums.low, _mm512_loadu_ps(bias + panel * kPanel));
        sums.high = _mm512_add_ps(sums.high, _mm512_loadu_ps(bias + panel * kPanel + 16));
      }
      _mm512_storeu_ps(place, sums.low);
      _mm512_storeu_ps(place + 16, sums.high);
    });
  }

  void add_to_rows(const Matrix& matrix) {
    const int width = shape_.width;
    multiply(decoder_.threads, matrix, inputs_, num_rows_, [&](int row, int panel, Sums sums) {
      float* target = &rows_[static_cast<size_t>(row) * width + panel * kPanel];
      _mm512_storeu_ps(target, _mm512_add_ps(_mm512_loadu_ps(target), sums.low));
      _mm512_storeu_ps(target + 16, _mm512_add_ps(_mm512_loadu_ps(target + 16), sums.high));
    });
  }

  void look(int layer, bool is_last) {
    struct Row {
      const Sequence* sequence;
      int position;
    };
    std::vector<Row> rows;
    for (const auto& sequence : sequences_)
      for (int index = 0; index < sequence.num_new; ++index) rows.push_back({&sequence, sequence.num_held + index});
    constexpr int kRowsAtOnce = 8;
    decoder_.threads.run((num_rows_ + kRowsAtOnce - 1) / kRowsAtOnce, [&](int part) {
      for (int row = part * kRowsAtOnce; row < std::min(num_rows_, (part + 1) * kRowsAtOnce); ++row) {
        const size_t angle = static_cast<size_t>(row) * (heads_.head_dim / 2);
        take_in(heads_, *rows[row].sequence, layer, rows[row].position,
                &mixed_[static_cast<size_t>(row) * heads_.width()], cosines_ + angle, sines_ + angle);
      }
    });
    std::vector<Looking> all;
    room(looked_, heads_.num_queries * heads_.head_dim);
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

  Decoder& decoder_;
  const DecoderShape& shape_;
  const Heads heads_;
  const std::vector<Sequence> sequences_;
  const float *cosines_, *sines_;
  int num_rows_ = 0;
  Inputs inputs_;
  std::vector<float> rows_, mixed_, looked_, hidden_;
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
