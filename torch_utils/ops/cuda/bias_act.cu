// The kernels of bias_act.h on a GPU. No header of PyTorch is read here, so that nvcc is done in seconds.

#include "bias_act.h"

namespace torch_utils {

template <class Kernel> __global__ void __launch_bounds__(THREADS) bias_act_kernel(const BiasAct p) {
    Kernel::run(p, blockIdx.x, threadIdx.x);
}

struct LaunchBiasAct {
    cudaStream_t stream;

    template <class Kernel> void run(const BiasAct& p) {
        bias_act_kernel<Kernel><<<static_cast<unsigned>(Kernel::blocks(p)), THREADS, 0, stream>>>(p);
    }
};

cudaError_t launch_bias_act(const BiasAct& p, cudaStream_t stream) {
    LaunchBiasAct launch{stream};
    switch (p.type) {
        case Type::float16: dispatch_bias_act<__half>(p, launch); break;
        case Type::bfloat16: dispatch_bias_act<__nv_bfloat16>(p, launch); break;
        case Type::float32: dispatch_bias_act<float>(p, launch); break;
        case Type::float64: dispatch_bias_act<double>(p, launch); break;
    }
    return cudaGetLastError();
}

}  // namespace torch_utils
