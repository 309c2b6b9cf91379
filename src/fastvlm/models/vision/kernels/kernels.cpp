// Passes over maps (B x C x H x W, float32, channels innermost in memory) that torch is slow at on processors: the
// gradient of depthwise 7 x 7 convolutions, and sums of normalised branches. Sums are taken in an order that does not
// depend on the number of threads. docs/decisions/0015 says why this is here.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

namespace {

// So many numbers at once, as GCC and Clang compile them for any processor.
template <int L>
struct Lanes {
  typedef float Vector __attribute__((vector_size(L * sizeof(float)), aligned(sizeof(float))));
};

template <int L>
inline typename Lanes<L>::Vector load(const float* place) {
  typename Lanes<L>::Vector vector;
  std::memcpy(&vector, place, sizeof vector);
  return vector;
}

template <int L>
inline void store(float* place, typename Lanes<L>::Vector vector) {
  std::memcpy(place, &vector, sizeof vector);
}

// ---- The gradient of a depthwise 7 x 7 convolution with padding 3 and stride 1 or 2.

constexpr int kSize = 7, kPad = 3, kTaps = kSize * kSize;
constexpr int kColumns = 8;  // computed together, each in a register

struct Shape {
  int64_t batch, channels, height, width, out_height, out_width;
};

// The last rows of one picture's map that were asked for, L channels of them, with zeros on both sides, so that no tap
// has to ask whether it lies inside.
template <int L>
class PaddedRows {
 public:
  PaddedRows(const float* map, int64_t width, int64_t channels, int64_t room)
      : map_(map), width_(width), channels_(channels), stride_((width + kPad + room) * L), rows_(stride_ * kSize, 0.f) {
    held_.fill(-1);
  }

  const float* operator[](int64_t number) {
    float* row = rows_.data() + (number % kSize) * stride_;
    if (held_[number % kSize] != number) {
      for (int64_t column = 0; column < width_; column++)
        store<L>(row + (kPad + column) * L, load<L>(map_ + (number * width_ + column) * channels_));
      held_[number % kSize] = number;
    }
    return row;
  }

 private:
  const float* map_;
  int64_t width_, channels_, stride_;
  std::vector<float> rows_;
  std::array<int64_t, kSize> held_;
};

// Adds what one picture says of L channels' weights to `sums`, taps x L.
template <int L, int Stride>
void add_weight_gradient(const Shape& shape, const float* x, const float* gradient, float* sums) {
  typedef typename Lanes<L>::Vector Vector;
  PaddedRows<L> rows(x, shape.width, shape.channels, kPad + Stride);
  for (int64_t out = 0; out < shape.out_height; out++) {
    const float* at_out = gradient + out * shape.out_width * shape.channels;
    for (int i = 0; i < kSize; i++) {
      const int64_t in = out * Stride + i - kPad;
      if (in < 0 || in >= shape.height) continue;
      const float* at_in = rows[in];
      float* own = sums + i * kSize * L;
      Vector found[kSize];
      for (int j = 0; j < kSize; j++) found[j] = load<L>(own + j * L);
      for (int64_t column = 0; column < shape.out_width; column++) {
        const Vector value = load<L>(at_out + column * shape.channels);
        const float* window = at_in + column * Stride * L;
        for (int j = 0; j < kSize; j++) found[j] += load<L>(window + j * L) * value;
      }
      for (int j = 0; j < kSize; j++) store<L>(own + j * L, found[j]);
    }
  }
}

// Writes the gradient of one picture's input, L channels of it. weight: taps x L.
template <int L, int Stride>
void write_input_gradient(const Shape& shape, const float* gradient, const float* weight, float* of_x) {
  typedef typename Lanes<L>::Vector Vector;
  PaddedRows<L> rows(gradient, shape.out_width, shape.channels, kPad + 2 * kColumns);
  for (int64_t in = 0; in < shape.height; in++)
    // Input columns of one phase see the same taps, and neighbouring outputs.
    for (int phase = 0; phase < Stride; phase++) {
      const int64_t count = (shape.width - phase + Stride - 1) / Stride;
      for (int64_t first = 0; first < count; first += kColumns) {
        Vector found[kColumns] = {};
        for (int i = 0; i < kSize; i++) {
          const int64_t above = in + kPad - i;
          if (above < 0 || above % Stride || above / Stride >= shape.out_height) continue;
          const float* row = rows[above / Stride] + (first + kPad) * L;
          for (int j = (phase + kPad) % Stride; j < kSize; j += Stride) {
            const Vector value = load<L>(weight + (i * kSize + j) * L);
            const float* window = row + (phase + kPad - j) / Stride * L;
            for (int u = 0; u < kColumns; u++) found[u] += load<L>(window + u * L) * value;
          }
        }
        float* out = of_x + (in * shape.width + first * Stride + phase) * shape.channels;
        const int64_t last = std::min<int64_t>(kColumns, count - first);
        for (int u = 0; u < kColumns; u++)
          if (u < last) store<L>(out + u * Stride * shape.channels, found[u]);
      }
    }
}

template <int L, int Stride>
void write_gradients(const Shape& shape, const float* x, const float* gradient, const float* weight, float* of_x,
                     float* of_weight) {
  const int64_t blocks = shape.channels / L;
  std::vector<float> ordered(blocks * kTaps * L);  // block x tap x channel
  for (int64_t channel = 0; channel < shape.channels; channel++)
    for (int64_t tap = 0; tap < kTaps; tap++)
      ordered[((channel / L) * kTaps + tap) * L + channel % L] = weight[channel * kTaps + tap];
  std::vector<float> sums(of_weight ? shape.batch * blocks * kTaps * L : 0, 0.f);
  at::parallel_for(0, shape.batch * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t picture = task / blocks, block = task % blocks;
      const int64_t in = picture * shape.height * shape.width * shape.channels + block * L;
      const int64_t out = picture * shape.out_height * shape.out_width * shape.channels + block * L;
      if (of_weight) add_weight_gradient<L, Stride>(shape, x + in, gradient + out, sums.data() + task * kTaps * L);
      if (of_x) write_input_gradient<L, Stride>(shape, gradient + out, ordered.data() + block * kTaps * L, of_x + in);
    }
  });
  if (!of_weight) return;
  for (int64_t channel = 0; channel < shape.channels; channel++)
    for (int64_t tap = 0; tap < kTaps; tap++) {
      double sum = 0;
      for (int64_t picture = 0; picture < shape.batch; picture++)
        sum += sums[((picture * blocks + channel / L) * kTaps + tap) * L + channel % L];
      of_weight[channel * kTaps + tap] = static_cast<float>(sum);
    }
}

std::tuple<at::Tensor, at::Tensor> depthwise_gradients(const at::Tensor& x_, const at::Tensor& gradient_,
                                                       const at::Tensor& weight_, int64_t stride, bool wants_x,
                                                       bool wants_weight) {
  const auto x = x_.contiguous(at::MemoryFormat::ChannelsLast);
  const auto gradient = gradient_.contiguous(at::MemoryFormat::ChannelsLast);
  const auto weight = weight_.contiguous();
  const Shape shape{x.size(0), x.size(1), x.size(2), x.size(3), gradient.size(2), gradient.size(3)};
  TORCH_CHECK(weight.size(2) == kSize && weight.size(3) == kSize && (stride == 1 || stride == 2) &&
                  shape.channels % 8 == 0,
              "expected a 7 x 7 kernel, stride 1 or 2, and a multiple of 8 channels");
  auto of_x = wants_x ? at::empty_like(x) : at::Tensor();
  auto of_weight = wants_weight ? at::empty_like(weight) : at::Tensor();
  const auto write = shape.channels % 16 == 0 ? (stride == 1 ? write_gradients<16, 1> : write_gradients<16, 2>)
                                              : (stride == 1 ? write_gradients<8, 1> : write_gradients<8, 2>);
  write(shape, x.const_data_ptr<float>(), gradient.const_data_ptr<float>(), weight.const_data_ptr<float>(),
        wants_x ? of_x.data_ptr<float>() : nullptr, wants_weight ? of_weight.data_ptr<float>() : nullptr);
  return {of_x, of_weight};
}

// ---- Sums of normalised branches.

constexpr int kLanes = 16;
constexpr int64_t kBlock = 256;  // rows that are summed in float32, before float64
typedef Lanes<kLanes>::Vector Vector;
typedef std::vector<double> Channels;
typedef std::vector<Channels> Table;

// A map as rows of whole vectors: where there are fewer channels than lanes, several positions make one row.
struct Rows {
  int64_t channels, width, count;

  explicit Rows(const at::Tensor& map) : channels(map.size(1)), width(std::max<int64_t>(map.size(1), kLanes)) {
    TORCH_CHECK(width % channels == 0 && width % kLanes == 0 && map.numel() % width == 0,
                "expected a map whose channels make whole vectors");
    count = map.numel() / width;
  }

  std::vector<float> row_of(const Channels& values) const {
    std::vector<float> row(width);
    for (int64_t i = 0; i < width; i++) row[i] = static_cast<float>(values[i % channels]);
    return row;
  }
};

// N sums by channel. add: given the place of a vector in the map and in its row, adds to N vectors.
template <int N, class Add>
Table sums_over_rows(const Rows& rows, const Add& add) {
  const int64_t blocks = (rows.count + kBlock - 1) / kBlock;
  std::vector<float> parts(blocks * N * rows.width);
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++)
      for (int64_t place = 0; place < rows.width; place += kLanes) {
        Vector sums[N] = {};
        const int64_t last = std::min(rows.count, (block + 1) * kBlock);
        for (int64_t row = block * kBlock; row < last; row++) add(row * rows.width + place, place, sums);
        for (int n = 0; n < N; n++) store<kLanes>(parts.data() + (block * N + n) * rows.width + place, sums[n]);
      }
  });
  Table totals(N, Channels(rows.channels, 0.0));
  for (int64_t block = 0; block < blocks; block++)
    for (int n = 0; n < N; n++)
      for (int64_t i = 0; i < rows.width; i++)
        totals[n][i % rows.channels] += parts[(block * N + n) * rows.width + i];
  return totals;
}

// Mean and biased variance of each channel.
std::array<Channels, 2> moments(const at::Tensor& map) {
  const Rows rows(map);
  const float* data = map.const_data_ptr<float>();
  // Squares are taken about one of the map's values, so that a large mean costs no digits.
  const Channels center(data, data + rows.channels);
  const auto center_row = rows.row_of(center);
  auto sums = sums_over_rows<2>(rows, [&](int64_t at, int64_t place, Vector* found) {
    const Vector value = load<kLanes>(data + at) - load<kLanes>(center_row.data() + place);
    found[0] += value;
    found[1] += value * value;
  });
  const double count = static_cast<double>(map.numel() / rows.channels);
  for (int64_t c = 0; c < rows.channels; c++) {
    const double mean = sums[0][c] / count;
    sums[1][c] = std::max(0.0, sums[1][c] / count - mean * mean);
    sums[0][c] = mean + center[c];
  }
  return {sums[0], sums[1]};
}

// level + the sum of factor * map over N maps, channel by channel.
template <int N>
at::Tensor weighted_sum(const Channels& level, const std::array<Channels, N>& factors,
                        const std::array<at::Tensor, N>& maps) {
  const Rows rows(maps[0]);
  at::Tensor out = at::empty_like(maps[0]);
  float* written = out.data_ptr<float>();
  const auto level_row = rows.row_of(level);
  std::array<std::vector<float>, N> factor_rows;
  std::array<const float*, N> data;
  for (int n = 0; n < N; n++) {
    const at::Tensor& map = maps[n];
    factor_rows[n] = rows.row_of(factors[n]);
    data[n] = map.const_data_ptr<float>();
  }
  at::parallel_for(0, rows.count, std::max<int64_t>(1, 8192 / rows.width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      for (int64_t place = 0; place < rows.width; place += kLanes) {
        const int64_t at = row * rows.width + place;
        Vector sum = load<kLanes>(level_row.data() + place);
        for (int n = 0; n < N; n++)
          sum += load<kLanes>(factor_rows[n].data() + place) * load<kLanes>(data[n] + at);
        store<kLanes>(written + at, sum);
      }
  });
  return out;
}

typedef c10::List<std::optional<at::Tensor>> Given;

// What is added up: share * (gain * (scale * map - scale * mean) * rate + bias) for each branch, where rate is
// (scale^2 * variance + epsilon)^-1/2. As a function of the map that is slope * map + the rest.
struct Branches {
  std::vector<int64_t> sources;
  std::vector<double> epsilons;
  Table scale, share, gain, bias;

  Branches(int64_t channels, at::IntArrayRef sources_, at::ArrayRef<double> epsilons_, const Given& scales,
           const Given& shares, const Given& gains, const Given& biases)
      : sources(sources_.vec()),
        epsilons(epsilons_.vec()),
        scale(read(scales, channels)),
        share(read(shares, channels)),
        gain(read(gains, channels)),
        bias(read(biases, channels)) {}

  size_t size() const { return sources.size(); }

  double rate(size_t branch, int64_t channel, double variance) const {
    return 1 / std::sqrt(scale[branch][channel] * scale[branch][channel] * variance + epsilons[branch]);
  }

 private:
  // A row for each branch: ones where nothing is given.
  static Table read(const Given& given, int64_t channels) {
    Table table;
    for (const std::optional<at::Tensor>& one : given) {
      table.emplace_back(channels, 1.0);
      if (!one) continue;
      const auto values = one->contiguous();
      std::copy_n(values.const_data_ptr<float>(), channels, table.back().begin());
    }
    return table;
  }
};

std::vector<at::Tensor> innermost(at::TensorList maps) {
  std::vector<at::Tensor> out;
  for (const auto& map : maps) out.push_back(map.contiguous(at::MemoryFormat::ChannelsLast));
  return out;
}

at::Tensor to_tensor(const Table& table) {
  auto out = at::empty({static_cast<int64_t>(table.size()), static_cast<int64_t>(table[0].size())}, at::kFloat);
  float* place = out.data_ptr<float>();
  for (const auto& row : table) place = std::copy(row.begin(), row.end(), place);
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> normalised_sum(at::TensorList maps_, at::IntArrayRef sources,
                                                              const Given& scales, const Given& shares,
                                                              const Given& gains, const Given& biases,
                                                              at::ArrayRef<double> epsilons, bool has_residual) {
  const auto maps = innermost(maps_);
  const int64_t channels = maps[0].size(1);
  const Branches branches(channels, sources, epsilons, scales, shares, gains, biases);
  Table means, variances, factors(maps.size(), Channels(channels, 0.0));
  for (const auto& map : maps) {
    const auto [mean, variance] = moments(map);
    means.push_back(mean);
    variances.push_back(variance);
  }
  Channels level(channels, 0.0);
  for (size_t b = 0; b < branches.size(); b++) {
    const int64_t source = branches.sources[b];
    for (int64_t c = 0; c < channels; c++) {
      const double rate = branches.rate(b, c, variances[source][c]);
      const double slope = branches.share[b][c] * branches.gain[b][c] * branches.scale[b][c] * rate;
      factors[source][c] += slope;
      level[c] += branches.share[b][c] * branches.bias[b][c] - slope * means[source][c];
    }
  }
  if (has_residual)
    for (double& factor : factors[0]) factor += 1;
  const auto total = maps.size() == 1 ? weighted_sum<1>(level, {factors[0]}, {maps[0]})
                                      : weighted_sum<2>(level, {factors[0], factors[1]}, {maps[0], maps[1]});
  return {total, to_tensor(means), to_tensor(variances)};
}

// The gradient summed over positions, and then its products with each map.
Table gradient_sums(const at::Tensor& gradient, const std::vector<at::Tensor>& maps) {
  const Rows rows(gradient);
  const float *at_out = gradient.const_data_ptr<float>(), *first = maps[0].const_data_ptr<float>();
  if (maps.size() == 1)
    return sums_over_rows<2>(rows, [&](int64_t at, int64_t, Vector* found) {
      const Vector value = load<kLanes>(at_out + at);
      found[0] += value;
      found[1] += value * load<kLanes>(first + at);
    });
  const float* second = maps[1].const_data_ptr<float>();
  return sums_over_rows<3>(rows, [&](int64_t at, int64_t, Vector* found) {
    const Vector value = load<kLanes>(at_out + at);
    found[0] += value;
    found[1] += value * load<kLanes>(first + at);
    found[2] += value * load<kLanes>(second + at);
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>> normalised_sum_gradients(
    const at::Tensor& gradient_, at::TensorList maps_, at::IntArrayRef sources, const Given& scales,
    const Given& shares, const Given& gains, const Given& biases, at::ArrayRef<double> epsilons, bool has_residual,
    const at::Tensor& means, const at::Tensor& variances) {
  const auto maps = innermost(maps_);
  const auto gradient = gradient_.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t channels = gradient.size(1), count = gradient.numel() / channels;
  const Branches branches(channels, sources, epsilons, scales, shares, gains, biases);
  const Table sums = gradient_sums(gradient, maps);
  const Channels& total = sums[0];
  const Channels zeros(channels, 0.0);
  Table of_scale(branches.size(), zeros), of_share(of_scale), of_gain(of_scale), of_bias(of_scale);
  // The gradient of a map is factor * gradient + slope * map + level; the last two by way of its moments.
  Table factors(maps.size(), zeros), slopes(factors), levels(factors);
  for (size_t b = 0; b < branches.size(); b++) {
    const int64_t source = branches.sources[b];
    for (int64_t c = 0; c < channels; c++) {
      const double mean = means.const_data_ptr<float>()[source * channels + c];
      const double rate = branches.rate(b, c, variances.const_data_ptr<float>()[source * channels + c]);
      const double scale = branches.scale[b][c], share = branches.share[b][c], gain = branches.gain[b][c];
      const double along = sums[1 + source][c] - total[c] * mean;  // what the gradient has in common with the map
      const double factor = share * gain * scale * rate;
      of_gain[b][c] = along * share * scale * rate;
      of_share[b][c] = along * gain * scale * rate + total[c] * branches.bias[b][c];
      of_bias[b][c] = total[c] * share;
      of_scale[b][c] = along * share * gain * branches.epsilons[b] * rate * rate * rate;
      const double slope = -along * factor * scale * scale * rate * rate / count;
      factors[source][c] += factor;
      slopes[source][c] += slope;
      levels[source][c] -= factor * total[c] / count + slope * mean;
    }
  }
  if (has_residual)
    for (double& factor : factors[0]) factor += 1;
  std::vector<at::Tensor> of_maps;
  for (size_t m = 0; m < maps.size(); m++)
    of_maps.push_back(weighted_sum<2>(levels[m], {factors[m], slopes[m]}, {gradient, maps[m]}));
  return {to_tensor(of_scale), to_tensor(of_share), to_tensor(of_gain), to_tensor(of_bias), of_maps};
}

}  // namespace

TORCH_LIBRARY(fastvlm, library) {
  library.def(
      "depthwise_gradients(Tensor x, Tensor gradient, Tensor weight, int stride, bool wants_x, bool wants_weight)"
      " -> (Tensor, Tensor)",
      &depthwise_gradients);
  library.def(
      "normalised_sum(Tensor[] maps, int[] sources, Tensor?[] scales, Tensor?[] shares, Tensor?[] gains,"
      " Tensor?[] biases, float[] epsilons, bool has_residual) -> (Tensor, Tensor, Tensor)",
      &normalised_sum);
  library.def(
      "normalised_sum_gradients(Tensor gradient, Tensor[] maps, int[] sources, Tensor?[] scales, Tensor?[] shares,"
      " Tensor?[] gains, Tensor?[] biases, float[] epsilons, bool has_residual, Tensor means, Tensor variances)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor[])",
      &normalised_sum_gradients);
}
