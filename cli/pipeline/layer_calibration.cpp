#include "cli/pipeline/layer_calibration.hpp"

#include <algorithm>

#include "cli/pipeline/timer.hpp"

namespace mpk {

void LayerHessians::add(std::initializer_list<const Linear*> linears, ConstMatrixRef x) {
  std::shared_ptr<MatrixF>& hessian = of_module_[(*linears.begin())->module];
  if (!hessian) {
    hessian = std::make_shared<MatrixF>(MatrixF::Zero(x.rows(), x.rows()));
    for (const Linear* linear : linears) of_module_[linear->module] = hessian;
  }
  add_gram(x, *hessian);
}

/// Calls `work(begin, count)` for chunks of whole windows of x, small enough that a chunk's temporaries fit
/// beside it.
template <class Work>
void LayerCalibration::for_each_chunk(const MatrixF& x, Work work) const {
  const Eigen::Index step = windows_per_chunk(config_, length_) * length_;
  for (Eigen::Index begin = 0; begin < x.cols(); begin += step) work(begin, std::min(step, x.cols() - begin));
}

template <class Stage>
void LayerCalibration::forward(Stage stage) {
  Timer timer{seconds_.forward};
  stage();
}

void LayerCalibration::see(LayerHessians& hessians, std::initializer_list<const Linear*> linears,
                           const MatrixF& input) {
  if (std::ranges::none_of(linears, [&](const Linear* linear) { return wanted_(linear->module); })) return;
  Timer timer{seconds_.hessian};
  hessians.add(linears, input);
}

void LayerCalibration::quantize_wanted(std::initializer_list<Linear*> linears, const LayerHessians& hessians,
                                       const Quantize& quantize) const {
  for (Linear* linear : linears)
    if (wanted_(linear->module)) quantize(*linear, hessians.of(*linear));
}

void LayerCalibration::at_once(DecoderLayer& layer, MatrixF& x, const Quantize& quantize) {
  LayerHessians hessians;
  LayerStages stages{config_, layer, length_};
  MatrixF state, input, output;
  for_each_chunk(x, [&](Eigen::Index begin, Eigen::Index count) {
    forward([&] {
      state = x.middleCols(begin, count);
      stages.attention_input(state, input);
    });
    see(hessians, {&layer.q, &layer.k, &layer.v}, input);
    forward([&] { stages.attention(input, output); });
    see(hessians, {&layer.o}, output);
    forward([&] {
      stages.add_attention(output, state);
      stages.mlp_input(state, input);
    });
    see(hessians, {&layer.gate, &layer.up}, input);
    forward([&] { stages.activation(input, output); });
    see(hessians, {&layer.down}, output);
  });
  quantize_wanted({&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}, hessians,
                  quantize);
  if (!is_last(layer)) forward([&] { forward_layer(config_, layer, length_, x, {}); });
}

void LayerCalibration::by_stages(DecoderLayer& layer, MatrixF& x, const Quantize& quantize) {
  LayerHessians hessians;
  LayerStages stages{config_, layer, length_};
  MatrixF input, output, heads(layer.o.weight.rows(), x.cols());
  for_each_chunk(x, [&](Eigen::Index begin, Eigen::Index count) {
    forward([&] { stages.attention_input(x.middleCols(begin, count), input); });
    see(hessians, {&layer.q, &layer.k, &layer.v}, input);
  });
  quantize_wanted({&layer.q, &layer.k, &layer.v}, hessians, quantize);
  for_each_chunk(x, [&](Eigen::Index begin, Eigen::Index count) {
    forward([&] {
      stages.attention_input(x.middleCols(begin, count), input);
      stages.attention(input, output);
      heads.middleCols(begin, count) = output;
    });
    see(hessians, {&layer.o}, output);
  });
  quantize_wanted({&layer.o}, hessians, quantize);
  for_each_chunk(x, [&](Eigen::Index begin, Eigen::Index count) {
    forward([&] {
      stages.add_attention(heads.middleCols(begin, count), x.middleCols(begin, count));
      stages.mlp_input(x.middleCols(begin, count), input);
    });
    see(hessians, {&layer.gate, &layer.up}, input);
  });
  quantize_wanted({&layer.gate, &layer.up}, hessians, quantize);
  const auto activate = [&](Eigen::Index begin,
                            Eigen::Index count) {  // twice: keeping it would cost several times x
    stages.mlp_input(x.middleCols(begin, count), input);
    stages.activation(input, output);
  };
  for_each_chunk(x, [&](Eigen::Index begin, Eigen::Index count) {
    forward([&] { activate(begin, count); });
    see(hessians, {&layer.down}, output);
  });
  quantize_wanted({&layer.down}, hessians, quantize);
  if (!is_last(layer))
    for_each_chunk(x, [&](Eigen::Index begin, Eigen::Index count) {
      forward([&] {
        activate(begin, count);
        stages.add_mlp(output, x.middleCols(begin, count));
      });
    });
}

}  // namespace mpk
