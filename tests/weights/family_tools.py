"""What the tools of the StyleGAN2 family do with a network pickle, in a process of its own that has no facegen.

    python family_tools.py networks.pkl inputs.npz outputs.npz stylegan2-ada-pytorch|stylegan3|nothing

Modules in the pickle are made anew as the family's persistence does: its source text is run as a fresh module, whose
class is derived from, so that instances pickle with the text again. The family's own networks are stood for by ours,
which have the same parameters: they are put into `training.networks` or `training.networks_stylegan2` with the
arguments and defaults of that program, and facegen is hidden before the pickle is loaded.
"""

from __future__ import annotations

import copy
import importlib
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


modules_of_sources: dict[str, types.ModuleType] = {}


def persistent_class(cls):
    """A class whose instances remember their arguments and pickle with the source of their module."""
    if "persistent" in vars(cls):
        return cls

    class Derived(cls):
        persistent = True
        defined_in = cls.__module__

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._init_args, self._init_kwargs = copy.deepcopy(args), copy.deepcopy(kwargs)

        @property
        def init_args(self):
            return copy.deepcopy(self._init_args)

        @property
        def init_kwargs(self):
            return copy.deepcopy(self._init_kwargs)

        @init_kwargs.setter
        def init_kwargs(self, kwargs):
            """Our own networks set it; the family's do not."""

        def __reduce__(self):
            source = next(text for text, module in modules_of_sources.items() if module.__name__ == self.defined_in)
            meta = {"type": "class", "version": 6, "module_src": source, "class_name": type(self).__name__}
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


def offer_networks(program: str) -> None:
    """Make the program's `training` importable, and facegen no more."""
    ours = [importlib.import_module(f"facegen.networks.{name}") for name in ("layers", "generator", "discriminator")]
    if program == "stylegan3":
        name, networks = "training.networks_stylegan2", stylegan3_networks(*ours[1:])
    else:
        name, networks = "training.networks", {"Generator": ours[1].Generator, "Discriminator": ours[2].Discriminator}
    for module in ours:
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__.startswith("facegen"):
                cls.__module__ = name  # where they pickle to, now that facegen is gone
                networks.setdefault(cls.__name__, cls)
    for key in ("Generator", "Discriminator"):
        networks[key] = persistent_class(networks[key])
    if program != "nothing":
        sys.modules["training"] = types.ModuleType("training")
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(networks)
        setattr(sys.modules["training"], name.split(".")[1], sys.modules[name])
    for module in [module for module in sys.modules if module.split(".")[0] == "facegen"]:
        del sys.modules[module]
    sys.meta_path.insert(0, NoFacegen())


def stylegan3_networks(generator, discriminator):
    """The arguments of stylegan3's networks for StyleGAN2: other defaults, and flat ones of the synthesis."""

    class Generator(generator.Generator):
        def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs={}, **synthesis):  # noqa: B006
            mapping = {"w_avg_beta": 0.998, **mapping_kwargs}
            synthesis = {"num_fp16_res": 4, "conv_clamp": 0.001, **synthesis}  # 256 there: here it must show
            super().__init__(z_dim, c_dim, w_dim, img_resolution, img_channels, mapping, synthesis)

    class Discriminator(discriminator.Discriminator):
        def __init__(self, c_dim, img_resolution, img_channels, num_fp16_res=4, conv_clamp=0.001, **kwargs):
            kwargs = {"num_fp16_res": num_fp16_res, "conv_clamp": conv_clamp, **kwargs}
            super().__init__(c_dim, img_resolution, img_channels, **kwargs)

    return {"Generator": Generator, "Discriminator": Discriminator}


def projector(G, z, c):
    """One step toward a picture, as a projector does it: gradients reach w and the noise."""
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


def again_by_pickle(network):
    stream = io.BytesIO()
    pickle.dump(network, stream)
    stream.seek(0)
    return pickle.load(stream)


def main(pickled: str, inputs: str, outputs: str, program: str) -> None:
    torch.set_num_threads(1)
    offer_networks(program)
    random_state = torch.get_rng_state()
    with open(pickled, "rb") as file:  # noqa: PTH123
        data = pickle.load(file)
    assert torch.equal(torch.get_rng_state(), random_state)
    for name in ("G", "D", "G_ema"):
        assert isinstance(data[name], torch.nn.Module)
        assert not data[name].training
        assert not any(parameter.requires_grad for parameter in data[name].parameters())
    assert data["augment_pipe"] is None
    z, c, x = (torch.from_numpy(array) for array in np.load(inputs).values())
    G, D = data["G_ema"], data["D"]
    results = {}
    with torch.no_grad():
        results["img"] = G(z, c, noise_mode="const")
        results["img_psi"] = G(z, c, truncation_psi=0.5, noise_mode="const", force_fp32=True, fused_modconv=True)
        for critic in (D, copy.deepcopy(D), again_by_pickle(D)):
            if type(D).__name__ == "Discriminator":
                logits = critic(x, c, force_fp32=True)
                assert torch.equal(logits, results.setdefault("logits", logits))
            else:
                assert "generator alone" in message_of(critic, x, c)

        # from scratch by its arguments, then parameters and buffers by name
        torch.manual_seed(5)
        again = type(G)(*G.init_args, **G.init_kwargs).eval()
        source = dict([*G.named_parameters(), *G.named_buffers()])
        for name, tensor in [*again.named_parameters(), *again.named_buffers()]:
            tensor.copy_(source[name])
        for copied in (again, again_by_pickle(again), copy.deepcopy(G), again_by_pickle(copy.deepcopy(again))):
            assert type(copied).__name__ == "Generator"
            assert torch.equal(copied(z, c, noise_mode="const"), results["img"])
        changed = copy.deepcopy(G)
        changed.synthesis.b4.const.zero_()
        assert not torch.equal(again_by_pickle(changed)(z, c, noise_mode="const"), results["img"])

        assert G.synthesis.num_ws == G.num_ws
        assert G.mapping.w_avg.shape == (G.w_dim,)
    projector(G, z, c)
    np.savez(outputs, **{name: tensor.numpy() for name, tensor in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
