// The CUDA kernels run on the host: one block after the other, one thread after the other, as if each thread of a block
// had come to the barrier before any goes on. Compiled and called by test_kernels_on_host.py.

#include <limits>
#include <string>
#include <vector>

#include "bias_act.h"
#include "upfirdn2d.h"

using namespace torch_utils;

namespace {

std::string kernel_name;  // of the kernel that ran last

struct RunBiasAct {
    template <class Kernel> void run(const BiasAct& p) {
        kernel_name = __PRETTY_FUNCTION__;
        for (int64_t block = 0; block < Kernel::blocks(p); block++) {
            for (int thread = 0; thread < THREADS; thread++) Kernel::run(p, block, thread);
        }
    }
};

struct RunUpfirdn2d {
    bool within_bounds = true;

    template <class Kernel> void run(const Upfirdn2d& p) {
        using A = typename Kernel::A;
        kernel_name = __PRETTY_FUNCTION__;
        constexpr int GUARD = 64;
        const size_t samples = Kernel::shared_bytes(p) / sizeof(A);
        if (samples * sizeof(A) > MAX_SHARED) within_bounds = false;
        for (int64_t block = 0; block < Kernel::blocks(p); block++) {
            // What nobody wrote is not a number, and spoils what is made of it.
            std::vector<A> shared(samples + 2 * GUARD, std::numeric_limits<A>::quiet_NaN());
            for (int thread = 0; thread < THREADS; thread++) Kernel::load(p, block, thread, shared.data() + GUARD);
            for (int thread = 0; thread < THREADS; thread++) Kernel::compute(p, block, thread, shared.data() + GUARD);
            for (int i = 0; i < GUARD; i++) {
                if (shared[i] == shared[i] || shared[GUARD + samples + i] == shared[GUARD + samples + i]) {
                    within_bounds = false;
                }
            }
        }
    }
};

}  // namespace

// Both return the kernel's name, or null where the type is unknown here or a kernel wrote beside its shared memory.

extern "C" const char* bias_act_on_host(const BiasAct* p) {
    RunBiasAct launch;
    switch (p->type) {
#ifdef __FLT16_MANT_DIG__
        case Type::float16: dispatch_bias_act<_Float16>(*p, launch); break;
#endif
        case Type::float32: dispatch_bias_act<float>(*p, launch); break;
        case Type::float64: dispatch_bias_act<double>(*p, launch); break;
        default: return nullptr;
    }
    return kernel_name.c_str();
}

extern "C" const char* upfirdn2d_on_host(const Upfirdn2d* p) {
    RunUpfirdn2d launch;
    switch (p->type) {
#ifdef __FLT16_MANT_DIG__
        case Type::float16: dispatch_upfirdn2d<_Float16>(*p, launch); break;
#endif
        case Type::float32: dispatch_upfirdn2d<float>(*p, launch); break;
        case Type::float64: dispatch_upfirdn2d<double>(*p, launch); break;
        default: return nullptr;
    }
    return launch.within_bounds ? kernel_name.c_str() : nullptr;
}
