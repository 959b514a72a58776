// What the kernels share: element types, and the few words that let a host compiler read the same code.
//
// The kernels of bias_act.h and upfirdn2d.h are written as functions of a block and a thread. nvcc makes kernels of
// them; a test compiles them for the host and runs block after block, thread after thread, where there is no GPU.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define HOST_DEVICE __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_4 _Pragma("unroll 4")
#else
#define HOST_DEVICE inline
#define UNROLL
#define UNROLL_4
#endif

namespace torch_utils {

constexpr int THREADS = 256;  // in every block

// Types of elements; the numbers travel from the bindings to the kernels.
enum class Type { float16 = 0, bfloat16 = 1, float32 = 2, float64 = 3 };

// The type that sums are kept in.
template <class T> struct Accumulator { using type = float; };
template <> struct Accumulator<double> { using type = double; };
template <class T> using Accumulated = typename Accumulator<T>::type;

template <class T> HOST_DEVICE Accumulated<T> widen(T value) { return static_cast<Accumulated<T>>(value); }
template <class T> HOST_DEVICE T narrow(Accumulated<T> value) { return static_cast<T>(value); }

#ifdef __CUDACC__
template <> HOST_DEVICE float widen<__half>(__half value) { return __half2float(value); }
template <> HOST_DEVICE __half narrow<__half>(float value) { return __float2half_rn(value); }
template <> HOST_DEVICE float widen<__nv_bfloat16>(__nv_bfloat16 value) { return __bfloat162float(value); }
template <> HOST_DEVICE __nv_bfloat16 narrow<__nv_bfloat16>(float value) { return __float2bfloat16_rn(value); }
#endif

}  // namespace torch_utils
