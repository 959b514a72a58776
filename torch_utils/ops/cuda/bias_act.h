// clamp(gain * act(x + b)) and its first two derivatives, element by element.

#pragma once

#include "element.h"

namespace torch_utils {

// In the order of `activation_funcs` in bias_act.py.
enum class Act { linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus, swish };

struct BiasAct {
    const void* x;      // the input; for a derivative, the input or (from_output) the result
    const void* b;      // bias, or null
    const void* g;      // what the derivative is multiplied by; null for order 0
    void* y;            // the result, in the layout of x
    int64_t count;      // elements of x
    int64_t bias_step;  // element i of memory has bias i / bias_step % bias_size
    int64_t bias_size;
    Type type;
    Act act;
    int order;         // of the derivative: 0, 1, 2
    bool from_output;  // x holds the result: only for linear, relu and lrelu of order 1
    double alpha;
    double gain;
    double clamp;  // negative: none
};

// The derivative of that order of the activation at x. Where it has a kink or a step, PyTorch's choice.
template <Act ACT, int ORDER, class A> HOST_DEVICE A activation(A x, A alpha) {
    static_assert(ORDER >= 0 && ORDER <= 2, "derivatives of this order have no formula here");
    constexpr A one = 1, two = 2;
    if constexpr (ACT == Act::linear) {
        return ORDER == 0 ? x : ORDER == 1 ? one : A(0);
    } else if constexpr (ACT == Act::relu) {
        if (ORDER == 0) return x < 0 ? A(0) : x;  // NaN stays
        return ORDER == 1 && x > 0 ? one : A(0);
    } else if constexpr (ACT == Act::lrelu) {
        if (ORDER == 0) return x > 0 ? x : x * alpha;
        return ORDER == 2 ? A(0) : x > 0 ? one : alpha;
    } else if constexpr (ACT == Act::tanh) {
        const A t = std::tanh(x), slope = one - t * t;
        return ORDER == 0 ? t : ORDER == 1 ? slope : -two * t * slope;
    } else if constexpr (ACT == Act::sigmoid) {
        const A s = one / (one + std::exp(-x)), slope = s * (one - s);
        return ORDER == 0 ? s : ORDER == 1 ? slope : slope * (one - two * s);
    } else if constexpr (ACT == Act::elu) {
        if (ORDER == 2 ? x >= 0 : x > 0) return ORDER == 0 ? x : ORDER == 1 ? one : A(0);
        return ORDER == 0 ? std::expm1(x) : std::exp(x);
    } else if constexpr (ACT == Act::selu) {  // Klambauer et al. 2017, equation 14
        constexpr A scale = A(1.0507009873554804934), slope = A(1.0507009873554804934 * 1.6732632423543772848);
        if (ORDER == 2 ? x >= 0 : x > 0) return ORDER == 0 ? scale * x : ORDER == 1 ? scale : A(0);
        return slope * (ORDER == 0 ? std::expm1(x) : std::exp(x));
    } else if constexpr (ACT == Act::softplus) {
        if (ORDER == 0) return x > 20 ? x : std::log1p(std::exp(x));  // from 20 on PyTorch takes it for linear
        const A s = one / (one + std::exp(-x));
        return ORDER == 1 ? s : s * (one - s);
    } else {
        static_assert(ACT == Act::swish, "an activation without a formula");
        const A s = one / (one + std::exp(-x));
        if (ORDER == 0) return x * s;
        if (ORDER == 1) return s * (one + x * (one - s));
        return s * (one - s) * (two + x * (one - two * s));
    }
}

// The result for x, its bias added; or g times the derivative there.
template <class T, Act ACT, int ORDER>
HOST_DEVICE T bias_act_element(const BiasAct& p, Accumulated<T> x, Accumulated<T> g) {
    using A = Accumulated<T>;
    const A alpha = A(p.alpha), gain = A(p.gain), limit = A(p.clamp);
    A y = gain * activation<ACT, 0>(x, alpha);
    if constexpr (ORDER == 0) {
        if (limit >= 0) y = y < -limit ? -limit : y > limit ? limit : y;  // NaN stays
        return narrow<T>(y);
    }
    if (limit >= 0 && !(y <= limit && y >= -limit)) return narrow<T>(A(0));
    return narrow<T>(g * gain * activation<ACT, ORDER>(x, alpha));
}

// The first derivative where the result y is known instead of x: only the sign of the input counts.
template <class T, Act ACT> HOST_DEVICE T bias_act_slope(const BiasAct& p, Accumulated<T> y, Accumulated<T> g) {
    using A = Accumulated<T>;
    const A edge = widen<T>(narrow<T>(A(p.clamp)));  // what was clamped lies here
    if (p.clamp >= 0 && !(y < edge && y > -edge)) return narrow<T>(A(0));
    return narrow<T>(g * A(p.gain) * activation<ACT, 1>(p.gain < 0 ? -y : y, A(p.alpha)));
}

// Elements that one thread takes: 16 bytes, one read.
template <class T> constexpr int VECTOR = 16 / sizeof(T);

struct alignas(16) Bits {
    uint32_t word[4];
};

HOST_DEVICE bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % sizeof(Bits) == 0; }

// Read `used` elements from `start` on; all of them at once where that is possible.
template <class T> HOST_DEVICE void read_vector(const void* from, int64_t start, int used, T (&to)[VECTOR<T>]) {
    const T* source = static_cast<const T*>(from) + start;
    if (used == VECTOR<T> && is_aligned(source)) {
        const Bits bits = *reinterpret_cast<const Bits*>(source);
        std::memcpy(to, &bits, sizeof bits);
        return;
    }
    UNROLL for (int i = 0; i < VECTOR<T>; i++) {
        if (i < used) to[i] = source[i];
    }
}

template <class T> HOST_DEVICE void write_vector(void* to, int64_t start, int used, const T (&from)[VECTOR<T>]) {
    T* target = static_cast<T*>(to) + start;
    if (used == VECTOR<T> && is_aligned(target)) {
        Bits bits;
        std::memcpy(&bits, from, sizeof bits);
        *reinterpret_cast<Bits*>(target) = bits;
        return;
    }
    UNROLL for (int i = 0; i < VECTOR<T>; i++) {
        if (i < used) target[i] = from[i];
    }
}

// The biases of the elements from `start` on.
template <class T> HOST_DEVICE void read_bias(const BiasAct& p, int64_t start, Accumulated<T> (&bias)[VECTOR<T>]) {
    int64_t run, place;  // number of the run of bias_step elements with one bias, and the place in it
    if (p.count <= INT32_MAX) {  // 32-bit division is several times quicker
        const uint32_t quotient = uint32_t(start) / uint32_t(p.bias_step);
        place = uint32_t(start) - quotient * uint32_t(p.bias_step);
        run = quotient % uint32_t(p.bias_size);
    } else {
        run = start / p.bias_step;
        place = start - run * p.bias_step;
        run %= p.bias_size;
    }
    const T* b = static_cast<const T*>(p.b);
    if (place + VECTOR<T> <= p.bias_step) {
        const Accumulated<T> value = widen<T>(b[run]);
        UNROLL for (int i = 0; i < VECTOR<T>; i++) bias[i] = value;
        return;
    }
    UNROLL for (int i = 0; i < VECTOR<T>; i++) {
        bias[i] = widen<T>(b[run]);
        if (++place == p.bias_step) {
            place = 0;
            if (++run == p.bias_size) run = 0;
        }
    }
}

// The kernel: thread `thread` of block `block` works on VECTOR consecutive elements.
template <class T, Act ACT, int ORDER, bool FROM_OUTPUT = false> struct BiasActKernel {
    static int64_t blocks(const BiasAct& p) {
        const int64_t per_block = int64_t(THREADS) * VECTOR<T>;
        return (p.count + per_block - 1) / per_block;
    }

    HOST_DEVICE static void run(const BiasAct& p, int64_t block, int thread) {
        using A = Accumulated<T>;
        constexpr int N = VECTOR<T>;
        const int64_t start = (block * THREADS + thread) * N;
        if (start >= p.count) return;
        const int used = start + N <= p.count ? N : int(p.count - start);

        T x[N] = {}, g[N] = {}, y[N];
        A bias[N] = {};
        read_vector<T>(p.x, start, used, x);
        if (ORDER > 0) read_vector<T>(p.g, start, used, g);
        if (!FROM_OUTPUT && p.b != nullptr) read_bias<T>(p, start, bias);
        UNROLL for (int i = 0; i < N; i++) {
            if constexpr (FROM_OUTPUT) {
                y[i] = bias_act_slope<T, ACT>(p, widen<T>(x[i]), widen<T>(g[i]));
            } else {
                y[i] = bias_act_element<T, ACT, ORDER>(p, widen<T>(x[i]) + bias[i], widen<T>(g[i]));
            }
        }
        write_vector<T>(p.y, start, used, y);
    }
};

template <class T, Act ACT, class Launch> void dispatch_order(const BiasAct& p, Launch& launch) {
    if constexpr (ACT == Act::linear || ACT == Act::relu || ACT == Act::lrelu) {
        if (p.from_output) return launch.template run<BiasActKernel<T, ACT, 1, true>>(p);
    }
    if (p.order == 0) return launch.template run<BiasActKernel<T, ACT, 0>>(p);
    if (p.order == 1) return launch.template run<BiasActKernel<T, ACT, 1>>(p);
    launch.template run<BiasActKernel<T, ACT, 2>>(p);
}

// Give `launch` the kernel for p: launch.template run<Kernel>(p).
template <class T, class Launch> void dispatch_bias_act(const BiasAct& p, Launch& launch) {
    switch (p.act) {
        case Act::linear: return dispatch_order<T, Act::linear>(p, launch);
        case Act::relu: return dispatch_order<T, Act::relu>(p, launch);
        case Act::lrelu: return dispatch_order<T, Act::lrelu>(p, launch);
        case Act::tanh: return dispatch_order<T, Act::tanh>(p, launch);
        case Act::sigmoid: return dispatch_order<T, Act::sigmoid>(p, launch);
        case Act::elu: return dispatch_order<T, Act::elu>(p, launch);
        case Act::selu: return dispatch_order<T, Act::selu>(p, launch);
        case Act::softplus: return dispatch_order<T, Act::softplus>(p, launch);
        case Act::swish: return dispatch_order<T, Act::swish>(p, launch);
    }
}

}  // namespace torch_utils
