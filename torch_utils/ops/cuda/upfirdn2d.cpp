// How PyTorch calls the kernels of upfirdn2d.cu. The operation is declared in library.py.

#include "upfirdn2d.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "binding.h"

namespace torch_utils {

cudaError_t launch_upfirdn2d(const Upfirdn2d& p, cudaStream_t stream);

namespace {

// Coordinates are 32-bit, and so are their multiples: a quarter of what that holds is far beyond any picture.
constexpr int64_t MAX_COORDINATE = int64_t(1) << 29;

int coordinate(int64_t value) {
    TORCH_CHECK_VALUE(
        value > -MAX_COORDINATE && value < MAX_COORDINATE, "a picture, filter, factor or padding of ", value,
        " is too large");
    return static_cast<int>(value);
}

// Factors are x, y; padding is x before, x after, y before, y after.
at::Tensor upfirdn2d(
    const at::Tensor& x, const at::Tensor& f, at::IntArrayRef up, at::IntArrayRef down, at::IntArrayRef padding,
    bool flip, double gain) {
    TORCH_CHECK_VALUE(x.dim() == 4 && f.dim() == 2, "a picture has 4 dimensions and a filter 2");
    TORCH_CHECK_VALUE(up.size() == 2 && down.size() == 2 && padding.size() == 4, "two factors each and four paddings");
    TORCH_CHECK_VALUE(up[0] > 0 && up[1] > 0 && down[0] > 0 && down[1] > 0, "factors are at least 1");
    TORCH_CHECK_VALUE(f.numel() > 0 && f.device() == x.device(), "the filter is empty or on another device");
    const c10::cuda::CUDAGuard guard(x.device());

    Upfirdn2d p{};
    p.type = type_of(x);
    p.channels_last = x.is_contiguous(at::MemoryFormat::ChannelsLast) && !x.is_contiguous();
    p.flip = flip;
    p.gain = gain;
    p.batch = coordinate(x.size(0));
    p.channels = coordinate(x.size(1));
    p.in_y = coordinate(x.size(2));
    p.in_x = coordinate(x.size(3));
    p.taps_y = coordinate(f.size(0));
    p.taps_x = coordinate(f.size(1));
    p.up_x = coordinate(up[0]);
    p.up_y = coordinate(up[1]);
    p.down_x = coordinate(down[0]);
    p.down_y = coordinate(down[1]);
    p.pad_x = coordinate(padding[0]);
    p.pad_y = coordinate(padding[2]);
    const int64_t room_x = x.size(3) * up[0] + padding[0] + padding[1] - f.size(1);
    const int64_t room_y = x.size(2) * up[1] + padding[2] + padding[3] - f.size(0);
    TORCH_CHECK_VALUE(
        room_x >= 0 && room_y >= 0, "a picture of ", x.sizes(), " is too small for ", f.size(0), " x ", f.size(1), " taps");
    coordinate(room_x + f.size(1));
    coordinate(room_y + f.size(0));
    p.out_x = coordinate(room_x / down[0] + 1);
    p.out_y = coordinate(room_y / down[1] + 1);
    for (const int64_t count :
         {x.size(0) * x.size(1), x.size(2) * x.size(3), int64_t(p.out_y) * p.out_x, int64_t(p.taps_y) * p.taps_x}) {
        TORCH_CHECK_VALUE(count <= INT32_MAX - 64, "a picture of ", x.sizes(), " has too many channels or pixels");
    }

    const auto layout = p.channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    const at::Tensor picture = x.contiguous(layout);
    const at::Tensor filter = f.to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
    at::Tensor y = at::empty({p.batch, p.channels, p.out_y, p.out_x}, x.options().memory_format(layout));
    if (y.numel() == 0) return y;
    p.x = picture.const_data_ptr();
    p.filter = filter.const_data_ptr();
    p.y = y.mutable_data_ptr();
    C10_CUDA_CHECK(launch_upfirdn2d(p, c10::cuda::getCurrentCUDAStream()));
    return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(torch_utils, CUDA, library) { library.impl("upfirdn2d", &upfirdn2d); }

}  // namespace torch_utils
