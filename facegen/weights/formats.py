"""The formats that weights are converted to, and what each can hold."""

FORMATS = ("safetensors", "pkl", "rosinality", "onnx", "torchscript")
KINDS = (
    *("generator", "encoder", "discriminator", "age_shift", "age_estimator", "sex_classifier"),
    *("lite_features", "editor"),
)
PARTS = ("mapping", "synthesis")  # a generator's first and second half
GRAPHS = ("generator", "encoder", "age_shift", "age_estimator", "editor", *PARTS)
SUFFIXES = {".safetensors": "safetensors", ".pkl": "pkl", ".onnx": "onnx"}  # a .pt can be two things: see convert
# What each format can hold, in the order of preference where it holds one network.
HOLDS = {
    "safetensors": KINDS,
    "pkl": ("generator", "discriminator"),
    "rosinality": ("generator",),
    "onnx": GRAPHS,
    "torchscript": GRAPHS,
}
