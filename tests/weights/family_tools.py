"""What the tools of the StyleGAN2 family do with a network pickle, in a process of its own that has no facegen.

    python family_tools.py networks.pkl inputs.npz outputs.npz

Modules in the pickle are made anew as the family's persistence does: its source text is run as a fresh module, whose
class is derived from, so that instances pickle with the text again.
"""

from __future__ import annotations

import copy
import importlib.abc
import io
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for torch_utils and dnnlib


class NoFacegen(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] == "facegen":
            raise AssertionError(f"the pickle needs {fullname}")
        return None


sys.meta_path.insert(0, NoFacegen())
modules_of_sources: dict[str, types.ModuleType] = {}


def persistent_class(cls):
    """A class whose instances remember their arguments and pickle with the source of their module."""
    if getattr(cls, "persistent", False):
        return cls

    class Derived(cls):
        persistent = True

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._init_args, self._init_kwargs = copy.deepcopy(args), copy.deepcopy(kwargs)

        @property
        def init_args(self):
            return copy.deepcopy(self._init_args)

        @property
        def init_kwargs(self):
            return copy.deepcopy(self._init_kwargs)

        def __reduce__(self):
            source = next(text for text, module in modules_of_sources.items() if module.__name__ == cls.__module__)
            meta = {"type": "class", "version": 6, "module_src": source, "class_name": cls.__name__}
            return _reconstruct_persistent_obj, ({**meta, "state": self.__dict__},)

    Derived.__name__ = cls.__name__
    return Derived


def _reconstruct_persistent_obj(meta):
    assert set(meta) == {"type", "version", "module_src", "class_name", "state"}
    assert (meta["type"], meta["version"]) == ("class", 6)
    source = meta["module_src"]
    if source not in modules_of_sources:
        module = types.ModuleType(f"source_{len(modules_of_sources)}")
        sys.modules[module.__name__] = modules_of_sources[source] = module
        exec(compile(source, module.__name__, "exec"), module.__dict__)
    cls = persistent_class(getattr(modules_of_sources[source], meta["class_name"]))
    obj = cls.__new__(cls)
    obj.__setstate__(meta["state"])
    return obj


persistence = types.ModuleType("torch_utils.persistence")
persistence.persistent_class = persistent_class
persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
_reconstruct_persistent_obj.__module__ = persistence.__name__
sys.modules["torch_utils.persistence"] = persistence


def projector(G, z, c):
    """One step towards a picture, as a projector does it: gradients reach w and the noise."""
    G = copy.deepcopy(G).eval().requires_grad_(False)
    noises = {name: buffer for name, buffer in G.synthesis.named_buffers() if "noise_const" in name}
    for buffer in noises.values():
        buffer[:] = torch.randn_like(buffer)
        buffer.requires_grad = True
    w = G.mapping(z, c)[:, :1].detach().requires_grad_(True)
    G.synthesis(w.repeat([1, G.mapping.num_ws, 1]), noise_mode="const").square().sum().backward()
    assert w.grad.abs().max() > 0
    for name, buffer in noises.items():
        strength = G.synthesis.get_parameter(name.replace("noise_const", "noise_strength"))
        assert strength == 0 or buffer.grad.abs().max() > 0


def message_of(D, x, c):
    try:
        D(x, c)
    except RuntimeError as error:
        return str(error)
    return ""


def main(pickled: str, inputs: str, outputs: str) -> None:
    torch.set_num_threads(1)
    with open(pickled, "rb") as file:  # noqa: PTH123
        data = pickle.load(file)
    assert all(isinstance(data[name], torch.nn.Module) for name in ("G", "D", "G_ema"))
    assert data["augment_pipe"] is None
    z, c, x = (torch.from_numpy(array) for array in np.load(inputs).values())
    G, D = data["G_ema"], data["D"]
    results = {}
    with torch.no_grad():
        results["img"] = G(z, c, noise_mode="const")
        results["img_psi"] = G(z, c, truncation_psi=0.5, noise_mode="const", force_fp32=True, fused_modconv=True)
        if type(D).__name__ == "Discriminator":
            results["logits"] = D(x, c, force_fp32=True)
        else:
            assert "generator alone" in message_of(D, x, c)

        # from scratch by its arguments, then parameters and buffers by name
        torch.manual_seed(5)
        again = type(G)(*G.init_args, **G.init_kwargs).eval()
        source = dict([*G.named_parameters(), *G.named_buffers()])
        for name, tensor in [*again.named_parameters(), *again.named_buffers()]:
            tensor.copy_(source[name])
        assert torch.equal(again(z, c, noise_mode="const"), results["img"])

        stream = io.BytesIO()
        pickle.dump(again, stream)
        stream.seek(0)
        assert torch.equal(pickle.load(stream)(z, c, noise_mode="const"), results["img"])
        assert G.synthesis.num_ws == G.num_ws
        assert G.mapping.w_avg.shape == (G.w_dim,)
        assert all(getattr(G.synthesis, f"b{r}").resolution == r for r in G.synthesis.block_resolutions)
    projector(G, z, c)
    np.savez(outputs, **{name: tensor.numpy() for name, tensor in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
