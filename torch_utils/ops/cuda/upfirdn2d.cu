// The kernels of upfirdn2d.h on a GPU. No header of PyTorch is read here, so that nvcc is done in seconds.

#include "upfirdn2d.h"

namespace torch_utils {

template <class Kernel> __global__ void __launch_bounds__(THREADS) upfirdn2d_kernel(const Upfirdn2d p) {
    extern __shared__ __align__(16) unsigned char shared[];
    auto* samples = reinterpret_cast<typename Kernel::A*>(shared);
    Kernel::load(p, blockIdx.x, threadIdx.x, samples);
    __syncthreads();
    Kernel::compute(p, blockIdx.x, threadIdx.x, samples);
}

struct LaunchUpfirdn2d {
    cudaStream_t stream;
    cudaError_t error = cudaSuccess;

    template <class Kernel> void run(const Upfirdn2d& p) {
        const int64_t blocks = Kernel::blocks(p);
        if (blocks > INT32_MAX) {
            error = cudaErrorInvalidConfiguration;
            return;
        }
        upfirdn2d_kernel<Kernel><<<static_cast<unsigned>(blocks), THREADS, Kernel::shared_bytes(p), stream>>>(p);
        error = cudaGetLastError();
    }
};

cudaError_t launch_upfirdn2d(const Upfirdn2d& p, cudaStream_t stream) {
    LaunchUpfirdn2d launch{stream};
    switch (p.type) {
        case Type::float16: dispatch_upfirdn2d<__half>(p, launch); break;
        case Type::bfloat16: dispatch_upfirdn2d<__nv_bfloat16>(p, launch); break;
        case Type::float32: dispatch_upfirdn2d<float>(p, launch); break;
        case Type::float64: dispatch_upfirdn2d<double>(p, launch); break;
    }
    return launch.error;
}

}  // namespace torch_utils
