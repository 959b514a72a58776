"""Attacks on the reader of network pickles. They run in a process that audits itself, see fuzz_pickles.py."""

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_numbers import FOLDER
from pickle_writers import (
    Network,
    call,
    name,
    persistent,
    pickled,
    raw,
    stack_name,
    storage,
    tensor,
    text,
    write_pickle,
    write_tensorflow_pickle,
)
from refusals import assert_refused

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.augment.strengths import Strengths
from facegen.weights.family.records import BUILDERS, read_records
from facegen.weights.family.safe_pickle import read_pickle

HERE = Path(__file__).parents[1]
COMMAND = text("touch tripwire")
TRIPWIRE_CODE = text("open('tripwire', 'w')")

GADGETS = """
os.system os.popen os.execl os.remove os.posix_spawn posix.system posix.popen nt.system nt.startfile os.path.exists
subprocess.Popen subprocess.run subprocess.call subprocess.check_output subprocess.getoutput commands.getoutput
builtins.eval builtins.exec builtins.compile builtins.getattr builtins.setattr builtins.__import__ builtins.open
builtins.breakpoint builtins.input builtins.globals builtins.map builtins.filter builtins.bytearray builtins.object
builtins.type builtins.super builtins.vars builtins.print builtins.list builtins.dict __builtin__.eval
__builtin__.getattr __builtin__.file operator.attrgetter operator.methodcaller operator.itemgetter operator.call
functools.partial functools.reduce functools.partialmethod itertools.starmap types.FunctionType types.CodeType
types.ModuleType importlib.import_module importlib.reload imp.load_source runpy.run_path runpy.run_module
pkgutil.resolve_name zipimport.zipimporter code.interact code.InteractiveInterpreter codeop.compile_command
pdb.run bdb.Bdb timeit.timeit cProfile.run profile.run trace.Trace doctest.debug_script pty.spawn platform.popen
pickle.loads pickle.load _pickle.loads _pickle.Unpickler marshal.loads shelve.open dill.loads cloudpickle.loads
joblib.load yaml.load copyreg._reconstructor copyreg.__newobj__ copyreg.add_extension copy_reg._reconstructor
ctypes.CDLL ctypes.cdll.LoadLibrary socket.create_connection urllib.request.urlopen webbrowser.open http.server.test
smtplib.SMTP shutil.rmtree shutil.copy tempfile.mkstemp pathlib.Path logging.config.fileConfig logging.FileHandler
asyncio.run multiprocessing.Process threading.Thread signal.signal sys.exit sys.modules sys.settrace gc.get_objects
pip.main setuptools.setup venv.create ensurepip.bootstrap site.addsitedir test.support.run_in_subprocess
torch.load torch.hub.load torch.jit.load torch.compile torch.save torch.serialization.load torch.package.PackageImporter
torch.storage._load_from_file torch._utils._rebuild_wrapper_subclass torch._utils._rebuild_meta_tensor_no_storage
torch._tensor._rebuild_from_type_v2 torch.distributed.rpc.rpc_sync torch.utils.collect_env.run torch.nn.Linear
torch.UntypedStorage torch.empty torch.zeros torch.from_file torch.utils.cpp_extension.load
numpy.load numpy.save numpy.fromfile numpy.memmap numpy.vectorize numpy.testing._private.utils.runstring
numpy.f2py.diagnose.run_command numpy.core.multiarray.fromfile numpy.distutils.exec_command.exec_command
torch_utils.persistence._src_to_module torch_utils.persistence.import_hook torch_utils.custom_ops.get_plugin
dnnlib.util.call_func_by_name dnnlib.util.get_obj_by_name dnnlib.util.open_url dnnlib.util.Logger
dnnlib.tflib.network.import_handler facegen.weights.family.records.read_records collections.defaultdict
collections.OrderedDict.__init__ numpy.dtype.__reduce__ __main__.main antigravity.fly this.s
""".split()  # noqa: SIM905 (a list of 150 lines otherwise)


def nested(inner: bytes) -> bytes:
    """A pickle that gives `inner` to torch's reader of storages."""
    return pickled(call(name("torch.storage", "_load_from_bytes"), raw(inner)))


def array_of(code: str, data: bytes, shape: bytes = b"K\x01\x85") -> bytes:
    """A numpy array as numpy pickles it, of any element type."""
    empty = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"K\x00\x85", raw(b"b"))
    dtype = call(name("numpy", "dtype"), text(code), b"\x89", b"\x88")
    return empty + b"(K\x01" + shape + dtype + b"\x89" + raw(data) + b"tb"


def module(class_name: str, state: bytes, version: bytes = b"K\x06") -> bytes:
    """A persistent object with the given instructions as its state."""
    meta = text("type") + text("class") + text("version") + version + text("module_src") + text("raise RuntimeError")
    meta += text("class_name") + text(class_name) + text("state") + state
    return call(name("torch_utils.persistence", "_reconstruct_persistent_obj"), b"}(" + meta + b"u")


def generator_with(**kwargs: object) -> bytes:
    """A generator's pickle whose constructor arguments are not those that it was built with."""
    built = {"z_dim": 2, "c_dim": 0, "w_dim": 2, "img_resolution": 4, "img_channels": 1}
    built["synthesis_kwargs"] = {"channel_base": 8}
    return write_pickle({"G_ema": persistent(Generator(**built), {**built, **kwargs})})


def twice(number: int) -> bytes:
    """The state of a module that holds the remembered one under two names."""
    modules = b"".join(text(key) + b"h" + bytes([number]) for key in "ab")
    return b"}(" + text("_parameters") + b"}" + text("_buffers") + b"}" + text("_modules") + b"}(" + modules + b"uu"


def tree(parameters: bytes = b"}", modules: bytes = b"}") -> bytes:
    """The state of a module with these parameters and modules."""
    return b"}(" + text("_parameters") + parameters + text("_buffers") + b"}" + text("_modules") + modules + b"u"


def tensorflow_network(variable: bytes, times: int) -> bytes:
    """A network for TensorFlow with 20 components, each of which has the one variable so many times."""
    network = name("dnnlib.tflib.network", "Network") + b")\x81"
    component = network + b"}" + text("variables") + b"h\x01sb"
    components = b"}(" + b"".join(text(str(i)) + component for i in range(20)) + b"u"
    return pickled(
        variable + b"\x940](" + b"h\x00" * times + b"e\x940",
        network + b"}(" + text("variables") + b"h\x01" + text("components") + components,
        text("build_func_name") + text("G_main") + b"ub",
    )


def gadget_attacks() -> dict[str, bytes]:
    """Every gadget, by both instructions that name globals, called."""
    attacks = {}
    for gadget in GADGETS:
        where, _, what = gadget.rpartition(".")
        argument = TRIPWIRE_CODE if what in ("eval", "exec", "compile", "timeit", "run") else COMMAND
        attacks[f"global {gadget}"] = pickled(call(name(where, what), argument), protocol=2)
        attacks[f"stack_global {gadget}"] = pickled(call(stack_name(where, what), argument))
        attacks[f"nested {gadget}"] = nested(pickled(call(name(where, what), argument), protocol=2))
    return attacks


SYSTEM = name("posix", "system")
PARTIAL_FIELDS = b"}(" + text("__setstate__") + SYSTEM + b"u"
SET = name("builtins", "set")
ODICT = name("collections", "OrderedDict")
TREE = b"}(" + b"".join(text(key) + b"}" for key in ("_modules", "_parameters", "_buffers", "_init_kwargs"))
TREE += text("_init_args") + b")u"

INSTRUCTIONS = {
    "empty file": b"",
    "no stop": b"\x80\x04N",
    "only stop": b"\x80\x04.",
    "text forms": b"\x80\x02" + pickle.dumps({"G": None, "x": (1, 2.5, "text")}, 0),
    "text": b"this is no pickle",
    "html": b"<!DOCTYPE html><html>404</html>",
    "zeros": bytes(1000),
    "protocol 255": b"\x80\xff.",
    "unknown instruction": pickled(b"\xfe"),
    "EXT1": pickled(b"\x82\x01"),
    "EXT2": pickled(b"\x83\x01\x00"),
    "EXT4": pickled(b"\x84\x01\x00\x00\x00"),
    "PERSID": b"\x80\x02Pmodule\n.",
    "BINPERSID": pickled(COMMAND, b"Q"),
    "INST": b"\x80\x02(" + COMMAND + b"iposix\nsystem\n.",
    "OBJ": b"\x80\x02(" + SYSTEM + COMMAND + b"o.",
    "OBJ allowed class": b"\x80\x02(" + ODICT + b"o.",
    "NEWOBJ": pickled(SYSTEM, b"(" + COMMAND + b"t\x81"),
    "NEWOBJ_EX": pickled(ODICT, b")}\x92"),
    "NEXT_BUFFER": pickled(b"\x97", protocol=5),
    "READONLY_BUFFER": pickled(b"N\x98", protocol=5),
    "protocol 0": pickle.dumps({"G": None, "x": (1, 2.5, "text")}, 0),
    "DUP": pickled(b"N2"),
    "call of text": pickled(COMMAND, COMMAND, b"\x85R"),
    "call of a dictionary": pickled(b"}", b")R"),
    "call with a list": pickled(SET, b"]R"),
    "call without arguments": pickled(SET, b"R"),
    "build text": pickled(COMMAND, b"}b"),
    "build a list": pickled(b"]", PARTIAL_FIELDS, b"b"),
    "build with __setstate__": pickled(call(ODICT), PARTIAL_FIELDS, b"b"),
    "build with slots": pickled(call(ODICT), b"N}(", text("__class__"), b"Nu\x86b"),
    "build a module": pickled(module("Generator", b"}"), b"}(", text("class_name"), b"Nu", b"b"),
    "build a global": pickled(SET, b"}b"),
    "append to a tuple": pickled(b")Na"),
    "append to a module": pickled(module("Generator", b"}"), b"Na"),
    "set item of a list": pickled(b"]", COMMAND, b"Ns"),
    "set item of a global": pickled(SET, COMMAND, b"Ns"),
    "add to a list": pickled(b"](N\x90"),
    "key without value": pickled(b"}(", COMMAND, b"u"),
    "unhashable key": pickled(b"}]Ns"),
    "tuple as key": pickled(b"})Ns"),
    "number as key": pickled(b"}G", struct.pack(">d", 1.5), b"Ns"),
    "huge key": pickled(b"}", text("x" * 2000), b"Ns"),
    "underflow": pickled(b"00"),
    "pop below a mark": pickled(b"N(00"),
    "no mark": pickled(b"Nt"),
    "tuple below a mark": pickled(b"NN(N\x86"),
    "unknown memo": pickled(b"j\x07\x00\x00\x00"),
    "memoize nothing": pickled(b"\x94"),
    "bad text": pickled(b"X\x02\x00\x00\x00\xff\xfe"),
    "surrogate": pickled(b"X\x03\x00\x00\x00\xed\xa0\x80"),
    "name without end": b"\x80\x02cposix",
    "long name": pickled(name("a" * 100_000, "b")),
    "name with a newline and colors": pickled(stack_name("posix\n\x1b[31m", "system\x07")),
    "name of numbers": pickled(b"K\x01K\x02\x93"),
    "lookalike name": pickled(call(stack_name("torch.storage", "_load_from_bytes\u200b"), raw(b""))),
    # Lengths that lie
    "BINBYTES": pickled(b"B\xff\xff\xff\x7f"),
    "BINBYTES8": pickled(b"\x8e" + struct.pack("<Q", 2**62)),
    "BINBYTES8 all ones": pickled(b"\x8e" + b"\xff" * 8),
    "BYTEARRAY8": pickled(b"\x96" + struct.pack("<Q", 2**40), protocol=5),
    "BINUNICODE": pickled(b"X\xff\xff\xff\xff"),
    "BINUNICODE8": pickled(b"\x8d" + struct.pack("<Q", 2**63)),
    "LONG4": pickled(b"\x8b" + struct.pack("<i", 2**31 - 1)),
    "LONG4 negative": pickled(b"\x8b" + struct.pack("<i", -1)),
    "LONG4 long": pickled(b"\x8b" + struct.pack("<i", 100_000) + b"\x01" * 100_000),
    "FRAME beyond the end": pickled(b"\x95" + struct.pack("<Q", 2**62)),
    "cut in a length": b"\x80\x04\x8e\x01\x02",
    # Bombs
    "deep lists": b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": pickled(b"N" + b"\x85" * 300_000),
    "deep marks": b"\x80\x04" + b"(" * 300_000 + b".",
    "doubling tuples": pickled(b")" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(200))),
    "doubling tuples as a key": pickled(b"})" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(90)) + b"Ns"),
    "memo of four billion": pickled(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff"),
    "endless instructions": b"\x80\x04" + b"N0" * 600_000 + b"N.",
    "one list, many sets": pickled(
        b"](" + b"".join(b"M" + struct.pack("<H", i) for i in range(30_000)) + b"e\x94",
        b"h\x000" * 10,
        (SET + b"h\x00\x85R0") * 5_000,
    ),
    "one storage, many times": pickled(
        raw(storage()), b"\x940", (name("torch.storage", "_load_from_bytes") + b"h\x00\x85R0") * 30_000
    ),
    "one long text in a storage, many times": pickled(
        raw(storage().replace(b"u.", text("filler") + text("\u00e9" * 2_000_000) + b"u.", 1)) + b"\x940",
        (name("torch.storage", "_load_from_bytes") + b"h\x00\x85R0") * 20_000,
    ),
    "colliding keys": pickled(
        b"}(" + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(50)) + b"u"
    ),
    # Arrays and tensors
    "object array": pickled(array_of("O8", pickle.dumps(os.getcwd))),
    "structured array": pickled(array_of("V8", bytes(8))),
    "text array": pickled(array_of("U2", bytes(8))),
    "short array": pickled(array_of("f4", bytes(3))),
    "array of other size": pickled(array_of("f4", bytes(8), b"K\x03\x85")),
    "array of -1": pickled(array_of("f4", bytes(8), b"J\xff\xff\xff\xff\x85")),
    "array of 2^40": pickled(array_of("f4", b"", b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"K\x00\x86")),
    "array of 100 dimensions": pickled(array_of("f4", bytes(4), b"(" + b"K\x01" * 100 + b"t")),
    "array of another class": pickled(
        call(name("numpy.core.multiarray", "_reconstruct"), name("os", "PathLike"), b"K\x00\x85", raw(b"b"))
    ),
    "array without state": pickled(b"}", text("G"), call(name("numpy.core.multiarray", "_reconstruct")), b"s"),
    "array with odd state": pickled(call(name("numpy.core.multiarray", "_reconstruct"), b"NNN"), b")b"),
    "call of ndarray": pickled(call(name("numpy", "ndarray"), b"K\x05\x85")),
    "dtype of a list": pickled(call(name("numpy", "dtype"), b"]")),
    "dtype of doubling tuples": pickled(
        b")" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(90)) + b"\x940",
        call(name("numpy", "dtype"), b"h\x5a"),
    ),
    "dtype of fields": pickled(
        call(name("numpy", "dtype"), text("O"), b"\x89", b"\x88"), b"(K\x03", text("|"), b"NNNtb"
    ),
    "object scalar": pickled(
        call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), text("O")), raw(b"x" * 8))
    ),
    "scalar of text": pickled(call(name("numpy.core.multiarray", "scalar"), text("f8"), raw(bytes(8)))),
    "frombuffer of a file": pickled(call(name("numpy.core.numeric", "_frombuffer"), COMMAND, COMMAND, b")", text("C"))),
    "tensor of stride 0": pickled(tensor(storage(), size=b"M\xff\xffM\xff\xff", stride=b"K\x00K\x00")),
    "tensor of 2^38": pickled(tensor(storage(), size=b"\x8a\x05" + (2**38).to_bytes(5, "little"), stride=b"K\x00")),
    "tensor beyond its storage": pickled(tensor(storage(), size=b"K\x02K\x02", stride=b"K\x64K\x01")),
    "tensor with an offset": pickled(tensor(storage(), offset=b"K\x63")),
    "tensor before its storage": pickled(tensor(storage(), offset=b"J\xff\xff\xff\xff")),
    "tensor of negative strides": pickled(tensor(storage(), stride=b"J\xff\xff\xff\xffK\x01")),
    "tensor of other rank": pickled(tensor(storage(), size=b"K\x04")),
    "tensor of text": pickled(tensor(storage(), size=text("4"))),
    "tensor of no storage": pickled(call(name("torch._utils", "_rebuild_tensor_v2"), b"]", b"K\x00", b")", b")")),
    "tensor without arguments": pickled(call(name("torch._utils", "_rebuild_tensor_v2"))),
    "parameter of text": pickled(call(name("torch._utils", "_rebuild_parameter"), COMMAND, b"\x88", b"}")),
    "nested command": nested(b"\x80\x02" + call(SYSTEM, COMMAND) + b"."),
    "nested command as type": nested(storage(kind=SYSTEM)),
    "nested storage type called": nested(storage(kind=call(name("torch", "FloatStorage"), b"K\x05"))),
    "nested type of text": nested(storage(kind=text("FloatStorage"))),
    "nested persistent id first": nested(b"\x80\x02" + text("storage") + b"Q."),
    "nested count": nested(storage(count=2**31 - 1)),
    "nested count negative": nested(storage(count=-4)),
    "nested count shown": nested(storage(shown=2**62)),
    "nested cut": nested(storage()[:-1]),
    "nested longer": nested(storage() + b"\x00"),
    "nested zip": nested(b"PK\x03\x04" + bytes(100)),
    "nested tar": nested(bytes(257) + b"ustar" + bytes(250)),
    "nested in nested": nested(nested(storage())),
    "nested empty": nested(b""),
    "nested text": pickled(call(name("torch.storage", "_load_from_bytes"), COMMAND)),
    # Modules
    "no networks": pickled(b"}"),
    "a list of texts": pickled(b"](" + COMMAND * 3 + b"e"),
    "text for a network": pickled(b"}" + text("G") + COMMAND + b"s"),
    "unknown class": pickled(b"}" + text("G") + module("Evil", TREE) + b"s"),
    "newer layout": pickled(b"}" + text("G") + module("Generator", TREE, b"M\xe8\x03") + b"s"),
    "module without parts": pickled(b"}" + text("G") + module("Generator", b"}") + b"s"),
    "module of text": pickled(call(name("torch_utils.persistence", "_reconstruct_persistent_obj"), COMMAND)),
    "module in itself": pickled(
        b"}\x94(" + text("_parameters") + b"}" + text("_buffers") + b"}" + text("_init_args") + b")",
        text("_init_kwargs") + b"}u0",
        module("Generator", b"h\x00") + b"\x94",
        b"h\x00" + text("_modules") + b"}" + text("again") + b"h\x01ss0",
    ),
    "doubling modules": pickled(
        module("Generator", TREE) + b"\x94",
        *(b"0" + module("Generator", twice(i)) + b"\x94" for i in range(60)),
    ),
    "one dictionary of nothing in many modules": pickled(
        b"}\x94(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(200_000)) + b"u0",
        module("Generator", tree(parameters=b"h\x00")),
        b"\x940}" + text("G"),
        module("Generator", tree(modules=b"}(" + b"".join(text(str(i)) + b"h\x01" for i in range(15_000)) + b"u")),
        b"s",
    ),
    "one list of variables in many components": tensorflow_network(text("lod") + b"K\x00\x86", 30_000),
    "one variable of a long name, many times": tensorflow_network(text("x" * 3_000_000 + "/lod") + b"K\x00\x86", 5_000),
    # Constructor arguments
    "resolution of a million": generator_with(
        img_resolution=2**20, synthesis_kwargs={"channel_base": 2**20}
    ),
    "resolution of four thousand": generator_with(img_resolution=2**12, synthesis_kwargs={"channel_base": 2**12}),
    "resolution of 2^62": generator_with(img_resolution=2**62),
    "resolution negative": generator_with(img_resolution=-4),
    "resolution of text": generator_with(img_resolution="4"),
    "resolution none": generator_with(img_resolution=None),
    "a billion layers": generator_with(mapping_kwargs={"num_layers": 10**9}),
    "no layers": generator_with(mapping_kwargs={"num_layers": 0}),
    "a million channels": generator_with(synthesis_kwargs={"channel_base": 2**20, "channel_max": 2**20}),
    "no channels": generator_with(synthesis_kwargs={"channel_base": 0}),
    "a long z": generator_with(z_dim=2**20),
    "no z": generator_with(z_dim=0),
    "a huge integer": generator_with(c_dim=10**300),
    "filter of a million taps": generator_with(synthesis_kwargs={"resample_filter": [1] * 10**5}),
    "filter of text": generator_with(synthesis_kwargs={"resample_filter": "abc"}),
    "filter of nothing": generator_with(synthesis_kwargs={"resample_filter": []}),
    "clamp of text": generator_with(synthesis_kwargs={"channel_base": 8, "conv_clamp": "256"}),
    "unknown activation": generator_with(synthesis_kwargs={"channel_base": 8, "activation": "evil"}),
    "unknown architecture": generator_with(synthesis_kwargs={"channel_base": 8, "architecture": "evil"}),
    "unknown argument": generator_with(custom_op_source="touch tripwire"),
    "argument with a dot": generator_with(**{"__init__.__globals__": 1}),
    "keyword arguments of a list": generator_with(mapping_kwargs=[1]),
    "gain infinite": generator_with(mapping_kwargs={"lr_multiplier": float("inf")}),
}  # fmt: skip


def run_fuzzer(*arguments: object, cwd: Path) -> dict:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    command = [sys.executable, str(HERE / "fuzz_pickles.py"), *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """What came of all attacks, read one after another in one process."""
    folder = tmp_path_factory.mktemp("attacks")
    files = folder / "files"
    files.mkdir()
    for number, data in enumerate([*INSTRUCTIONS.values(), *gadget_attacks().values()]):
        (files / f"{number:04}.pkl").write_bytes(data)
    for evil in ("legacy_evil", "legacy_evil_nested"):
        (files / f"{evil}.pkl").write_bytes((FOLDER / f"{evil}.pkl").read_bytes())
    (files / "good.pkl").write_bytes((FOLDER / "legacy_protocol3.pkl").read_bytes())
    report = run_fuzzer("read", files, cwd=folder)
    report["left"] = [entry.name for entry in folder.iterdir() if entry.name != "files"]
    names = [*INSTRUCTIONS, *gadget_attacks(), "good", "evil", "evil nested"]
    report["by_name"] = dict(zip(names, report["files"].values(), strict=False))
    return report


def test_no_attack_runs_imports_or_opens_anything(report):
    assert report["left"] == []  # no tripwire
    assert report["events"] == []
    assert report["modules"] == []


def test_every_attack_is_refused_in_one_clear_line_that_names_the_file(report):
    outcomes = dict(report["files"])
    assert outcomes.pop("good.pkl") == "network"
    for file, words in outcomes.items():
        assert file in words, words
        assert words.isprintable(), words
        assert len(words) < 600


def test_no_attack_takes_long_or_much_memory(report):
    # An interpreter of a million instructions needs about a second; a core may be slow and shared.
    assert report["slowest"] < 15
    # torch and facegen alone are 500 MB; a million instructions of small values may take 300 more.
    assert report["megabytes"] < 1100


def test_names_that_no_network_file_needs_are_refused_by_name(report):
    for gadget in GADGETS:
        for attack in (f"global {gadget}", f"stack_global {gadget}", f"nested {gadget}"):
            words = report["by_name"][attack]
            assert f"names {gadget}, which no network file needs: refused" in words, attack


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ("evil", "names posix.system"),
        ("evil nested", "names posix.system"),
        ("empty file", "not a pickle of protocol 2 or newer"),
        ("html", "a web page, or another format?"),
        ("no stop", "a damaged pickle, at byte 3"),
        ("EXT1", "uses the pickle instruction EXT1"),
        ("PERSID", "uses the pickle instruction PERSID"),
        ("BINPERSID", "refers to objects outside the file"),
        ("INST", "uses the pickle instruction INST"),
        ("NEWOBJ", "names posix.system"),
        ("NEXT_BUFFER", "NEXT_BUFFER"),
        ("protocol 0", "not a pickle of protocol 2 or newer"),
        ("BINBYTES8", "4,611,686,018,427,387,904 bytes announced, 1 left"),
        ("FRAME beyond the end", "a frame longer than the file"),
        ("endless instructions", "more than 1,000,000 pickle instructions"),
        ("one storage, many times", "inside a tensor: repeats its text"),
        ("one long text in a storage, many times", "inside a tensor: repeats its text"),
        ("object array", "an array of the type 'O8', not of numbers"),
        ("tensor of stride 0", "a tensor larger than its storage"),
        ("nested command", "inside a tensor: names posix.system"),
        ("nested zip", "inside a tensor"),
        ("unknown class", "of the class Evil: not supported"),
        ("newer layout", "pickled in layout 1000, facegen knows layouts up to 6"),
        ("module in itself", "nested deeper than any network"),
        ("doubling modules", "nested deeper than any network"),
        ("one dictionary of nothing in many modules", "nested deeper than any network"),
        ("one list of variables in many components", "30,000 variables, no network has so many"),
        ("one variable of a long name, many times", "a variable's name of 3,000,004 characters"),
        ("resolution of a million", "the resolution is at most"),
        ("resolution of four thousand", "larger tensors than the file has"),
        ("no z", "a layer would have no inputs"),
        ("resolution of 2^62", "the argument img_resolution cannot be"),
        ("unknown argument", "'custom_op_source', which StyleGAN2-ADA's G_ema does not take"),
        ("a billion layers", "the argument num_layers cannot be 1000000000"),
    ],
)
def test_the_line_says_what_is_wrong(report, attack, words):
    assert words in report["by_name"][attack]


def test_a_file_that_was_changed_anywhere_is_refused_or_read_and_never_run(tmp_path):
    report = run_fuzzer("mutate", seed_files(tmp_path), 400, 0, cwd=tmp_path)
    check_mutants(report, 400, tmp_path)


@pytest.mark.slow
def test_twenty_thousand_changed_files(tmp_path):
    report = run_fuzzer("mutate", seed_files(tmp_path), 20_000, 1, cwd=tmp_path)
    check_mutants(report, 20_000, tmp_path)


def seed_files(folder: Path) -> Path:
    """Small good files of several protocols, to be changed."""
    kwargs = {"z_dim": 4, "c_dim": 2, "w_dim": 4, "img_resolution": 8, "img_channels": 1}
    kwargs |= {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": {"channel_base": 16, "channel_max": 4}}
    critic = {"c_dim": 2, "img_resolution": 8, "img_channels": 1, "channel_base": 16, "channel_max": 4}
    content = {
        "G": None,
        "augment_pipe": persistent(AugmentPipe(Strengths(xflip=1)), {"xflip": 1}),
        "G_ema": persistent(Generator(**kwargs), kwargs),
        "D": persistent(Discriminator(**critic), critic),
        "training_set_kwargs": {"path": "faces.zip"},
    }
    files = folder / "seeds"
    files.mkdir()
    for protocol in (3, 4, 5):
        (files / f"protocol{protocol}.pkl").write_bytes(write_pickle(content, protocol))
    variables = {"lod": np.float32(0), "4x4/Const/const": np.zeros([1, 4, 4, 4], np.float32)}
    (files / "tensorflow.pkl").write_bytes(write_tensorflow_pickle(Network("G", "G_main", variables, fmap_base=16)))
    (files / "golden.pkl").write_bytes((FOLDER / "legacy_protocol3.pkl").read_bytes())
    return files


def check_mutants(report: dict, count: int, folder: Path) -> None:
    assert report["network"] + report["error"] == count
    assert report["network"] > 0  # some changes hit a weight
    assert report["many_lines"] == 0
    assert report["events"] == []
    assert report["modules"] == []
    assert sorted(entry.name for entry in folder.iterdir()) == ["mutant.pkl", "seeds"]
    assert report["slowest"] < 15
    assert report["megabytes"] < 1100


# What is read, and how


def read(data: bytes) -> object:
    return read_pickle(data, BUILDERS, "file")[0]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_and_containers_are_read_as_python_reads_them(protocol):
    value = {
        "numbers": [0, 1, 255, 256, -1, 2**31 - 1, -(2**31), 2**40, -(2**70), 0.1, -1e300],
        "texts": ["", "a", "ünï → 漢字 🙂", "x" * 70_000],
        "more": (None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[], {}]),
        5: {"shared": None},
        "empty set": set(),
    }
    value["again"] = value["numbers"]
    loaded = read(pickle.dumps(value, protocol))
    assert loaded == value
    assert loaded["again"] is loaded["numbers"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", ">f4", "<i8", "|u1", "?"])
def test_numpy_arrays_and_scalars_are_read_as_numpy_reads_them(protocol, dtype):
    made = np.arange(12).astype(dtype).reshape(3, 4)
    values = [made, np.asfortranarray(made), made[1, 1], np.zeros([0, 3], dtype), np.array(1, dtype)]
    loaded = read(pickle.dumps(values, protocol))
    for value, expected in zip(loaded, values, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert loaded[0].dtype == made.dtype
    assert type(loaded[2]) in (float, int, bool)


def test_an_array_that_occurs_twice_is_one_array():
    made = np.arange(3.0)
    loaded = read(pickle.dumps([made, {"again": made}]))
    assert loaded[0] is loaded[1]["again"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors_are_read_as_torch_reads_them(tmp_path, protocol):
    tensors = {
        "float": torch.randn(2, 3),
        "part": torch.randn(4, 6)[1:3, ::2],
        "transposed": torch.randn(2, 3).t(),
        "half": torch.randn(3).half(),
        "double": torch.randn(3).double(),
        "long": torch.arange(5),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(1.5),
        "none": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    path = tmp_path / "tensors.pkl"
    path.write_bytes(pickle.dumps(tensors, protocol))
    for key, value in read_records(path).items():
        np.testing.assert_array_equal(value, tensors[key].detach().numpy(), err_msg=key)


def test_bytes_take_no_memory_of_their_own():
    data = pickle.dumps(b"x" * 1000)
    value = read(data)
    assert isinstance(value, memoryview)
    assert value.obj is data
    assert value.readonly


def test_the_position_behind_a_pickle_is_returned():
    data = pickle.dumps(1) + pickle.dumps(2)
    first, end = read_pickle(data, {}, "file")
    second, last = read_pickle(data, {}, "file", start=end)
    assert (first, second, last) == (1, 2, len(data))


def test_what_may_be_named_is_a_short_list():
    # Whoever adds a name has to show that its builder does a fixed amount of work and calls nothing of the file's.
    assert {entry.split(".")[0] for entry in BUILDERS} == {
        "numpy", "builtins", "__builtin__", "collections", "dnnlib", "torch", "torch_utils",
    }  # fmt: skip
    assert len(BUILDERS) < 20
    assert all(builder.__module__.startswith("facegen.") for builder in BUILDERS.values())


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    assert_refused("there is no such weights file", read_records, tmp_path / "nothing.pkl", error=FileNotFoundError)
    assert_refused("a folder", read_records, tmp_path)


def test_a_file_larger_than_any_network_is_not_read(tmp_path):
    path = tmp_path / "huge.pkl"
    with path.open("wb") as file:
        file.truncate(9 * 2**30)  # sparse: takes no room
    assert_refused("too large for a file of this kind", read_records, path)
