// How PyTorch calls the kernels of bias_act.cu. The operations are declared in library.py.

#include "bias_act.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "binding.h"

namespace torch_utils {

cudaError_t launch_bias_act(const BiasAct& p, cudaStream_t stream);

namespace {

Act act_of(c10::string_view name) {
    static constexpr const char* names[] = {
        "linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"};
    int64_t number = 0;
    for (const char* known : names) {
        if (name == known) return static_cast<Act>(number);
        number++;
    }
    TORCH_CHECK_VALUE(false, "unknown activation '", name, "'");
}

// The tensor in the layout of `like`, element for element in the same place of memory.
at::Tensor in_layout_of(const at::Tensor& like, const at::Tensor& tensor) {
    return tensor.strides() == like.strides() ? tensor : at::empty_like(like).copy_(tensor);
}

at::Tensor run(
    const at::Tensor& x, const std::optional<at::Tensor>& b, const std::optional<at::Tensor>& g, int64_t dim,
    c10::string_view act, double alpha, double gain, std::optional<double> clamp, bool from_output, int64_t order) {
    const c10::cuda::CUDAGuard guard(x.device());
    at::Tensor y = at::empty_like(x);  // dense, in the layout of x
    const at::Tensor input = in_layout_of(y, x);
    at::Tensor bias, factor;

    BiasAct p{};
    p.type = type_of(x);
    p.act = act_of(act);
    p.order = static_cast<int>(order);
    p.from_output = from_output;
    p.alpha = alpha;
    p.gain = gain;
    p.clamp = clamp.value_or(-1);
    p.count = x.numel();
    p.bias_step = p.bias_size = 1;
    if (b.has_value()) {
        dim = at::maybe_wrap_dim(dim, x.dim());
        TORCH_CHECK_VALUE(b->dim() == 1 && b->size(0) == x.size(dim), "the bias does not fit its dimension");
        TORCH_CHECK_VALUE(
            b->device() == x.device() && b->scalar_type() == x.scalar_type(), "the bias has another type or device");
        bias = b->contiguous();
        p.bias_size = bias.size(0);
        p.bias_step = std::max<int64_t>(y.stride(dim), 1);
    }
    if (g.has_value()) {
        TORCH_CHECK_VALUE(g->sizes() == x.sizes(), "the gradient has another shape");
        TORCH_CHECK_VALUE(
            g->device() == x.device() && g->scalar_type() == x.scalar_type(), "the gradient has another type or device");
        factor = in_layout_of(y, *g);
    }
    if (p.count == 0) return y;
    p.x = input.const_data_ptr();
    p.b = bias.defined() ? bias.const_data_ptr() : nullptr;
    p.g = factor.defined() ? factor.const_data_ptr() : nullptr;
    p.y = y.mutable_data_ptr();
    C10_CUDA_CHECK(launch_bias_act(p, c10::cuda::getCurrentCUDAStream()));
    return y;
}

at::Tensor bias_act(
    const at::Tensor& x, const std::optional<at::Tensor>& b, int64_t dim, c10::string_view act, double alpha,
    double gain, std::optional<double> clamp) {
    return run(x, b, std::nullopt, dim, act, alpha, gain, clamp, false, 0);
}

at::Tensor bias_act_grad(
    const at::Tensor& g, const at::Tensor& x, const std::optional<at::Tensor>& b, int64_t dim, c10::string_view act,
    double alpha, double gain, std::optional<double> clamp, bool from_output, int64_t order) {
    TORCH_CHECK_VALUE(order == 1 || (order == 2 && !from_output), "no kernel for the derivative of order ", order);
    TORCH_CHECK_VALUE(
        !from_output || act == "linear" || act == "relu" || act == "lrelu", act, " is not known by its result");
    return run(x, b, g, dim, act, alpha, gain, clamp, from_output, order);
}

}  // namespace

TORCH_LIBRARY_IMPL(torch_utils, CUDA, library) {
    library.impl("bias_act", &bias_act);
    library.impl("bias_act_grad", &bias_act_grad);
}

}  // namespace torch_utils
