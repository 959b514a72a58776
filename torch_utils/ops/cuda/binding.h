// What the two bindings to PyTorch share.

#pragma once

#include "element.h"

#include <ATen/core/Tensor.h>

namespace torch_utils {

inline Type type_of(const at::Tensor& x) {
    switch (x.scalar_type()) {
        case at::kHalf: return Type::float16;
        case at::kBFloat16: return Type::bfloat16;
        case at::kFloat: return Type::float32;
        case at::kDouble: return Type::float64;
        default: TORCH_CHECK_VALUE(false, "no kernel for ", x.scalar_type());
    }
}

}  // namespace torch_utils
