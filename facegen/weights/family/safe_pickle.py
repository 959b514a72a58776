"""Reads pickles without running anything: a small interpreter of the instructions that network files use.

Python's own unpickler looks names up and calls what it finds; an allow-list on top of it has been outwitted many times,
and its C version reserves what a length or a memo number claims. This interpreter has no instruction that imports,
looks up or calls anything. A global stays a name; what stands for it is a function of the caller's table, and a
name that is not in the table ends the reading. Instructions that network files never need (extension codes, named
persistent ids, the text forms of protocol 0 and Python 2, ...) are unknown to it.

Bounds: `Budget.instructions` in all, each of which does a fixed amount of work or copies text, of which all together
copy no more than the file has (a pickle inside a pickle can be read again and again); so time and memory are bounded
by the file's size. Builders must keep to that: work in proportion to an argument would be repeated as often as the
file names the argument; so must code that walks the result, where one long thing may occur any number of times. There
is no recursion here, so nesting costs nothing.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from facegen.errors import DamagedError, FacegenError
from facegen.text import shown

MAX_INSTRUCTIONS = 1_000_000  # the largest network files of the family have about 100,000
MAX_NAME = 256  # characters of a global's module and name
MAX_KEY = 1000  # characters of a dictionary key: comparing equal long ones again and again would take hours
MAX_INTEGER_BYTES = 1024
KEY_RANGE = 2**31  # integers whose hashes an attacker cannot make collide


@dataclass
class Budget:
    """How many instructions a file may still have, and bytes of text; shared by the pickles inside its pickle."""

    text: int
    instructions: int = field(default_factory=lambda: MAX_INSTRUCTIONS)


class Global(NamedTuple):
    """The name of something that the file wants to have; never the thing itself."""

    name: str


class Record:
    """Base of the objects that a builder returns and the file fills later by a BUILD instruction."""

    def __init__(self) -> None:
        self.memo_numbers: list[int] = []  # where the file keeps references to this record

    def build(self, state: Any) -> Any:
        """Take the state; return what stands for the record from now on (itself, or a finished value)."""
        raise TypeError("this object takes no state")


class Damaged(Exception):
    """The bytes are no well-formed pickle."""


def read_pickle(
    data: bytes | memoryview,
    builders: Mapping[str, Callable[..., Any]],
    where: str,
    *,
    budget: Budget | None = None,
    start: int = 0,
    persistent_ids: bool = False,
    python2: bool = False,
) -> tuple[Any, int]:
    """Interpret one pickle.

    Args:
        data: The file's bytes.
        builders: What the file may name, as `module.name`: our own functions, called with the file's arguments.
            A TypeError or ValueError of theirs means that the file is damaged.
        where: What to call the file in messages.
        budget: What is left of it after what was read before; None for a new one.
        start: Where in `data` the pickle begins.
        persistent_ids: Take a persistent id for the object that it names; else those are refused.
        python2: Take the strings of Python 2, too: of up to 255 letters as text, longer ones as bytes.

    Returns:
        The object and the position behind the pickle. Containers are `dict`, `list`, `tuple`, `set`; bytes come as
        read-only `memoryview`s of `data`, so they take no memory of their own.

    Raises:
        DamagedError: no well-formed pickle.
        FacegenError: too long, or it names or needs something that is not allowed.
    """
    machine = _Machine(memoryview(data).toreadonly(), start, builders, persistent_ids, budget or Budget(len(data)))
    machine.instructions = INSTRUCTIONS | PYTHON2 if python2 else INSTRUCTIONS
    try:
        return machine.run(), machine.position
    except FacegenError as error:
        raise FacegenError(f"{where}: {error}") from None
    except (Damaged, ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise DamagedError(
            f"{where}: a damaged pickle, at byte {machine.position:,} ({shown(error)}); get the file again"
        ) from error


class _Machine:
    """The stack, the marks and the memo of one pickle; `run` interprets it."""

    def __init__(
        self,
        data: memoryview,
        position: int,
        builders: Mapping[str, Callable[..., Any]],
        persistent_ids: bool,
        budget: Budget,
    ) -> None:
        self.data, self.position = data, position
        self.builders, self.persistent_ids, self.budget = builders, persistent_ids, budget
        self.stack: list[Any] = []
        self.marks: list[int] = []  # lengths that the stack had
        self.memo: dict[int, Any] = {}
        self.instructions = INSTRUCTIONS

    def run(self) -> Any:
        while self.budget.instructions > 0:
            self.budget.instructions -= 1
            code = self.take(1)[0]
            if code == STOP:
                return self.pop()
            instruction = self.instructions.get(code)
            if instruction is None:
                name = REFUSED_INSTRUCTIONS.get(code)
                if name is None:
                    raise Damaged(f"unknown instruction 0x{code:02x}")
                raise FacegenError(f"uses the pickle instruction {name}, which network files do not need: refused")
            instruction(self)
        raise FacegenError(f"has more than {MAX_INSTRUCTIONS:,} pickle instructions, no network has so many: refused")

    # The file and the stack

    def take(self, count: int) -> memoryview:
        """The next bytes; a length that the file does not have is refused before anything is reserved."""
        end = self.position + count
        if end > len(self.data):
            raise Damaged(f"{count:,} bytes announced, {len(self.data) - self.position:,} left")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        raw = bytes(self.data[self.position : self.position + MAX_NAME + 1])
        end = raw.find(b"\n")
        if end < 0:
            raise Damaged("a name without an end")
        self.position += end + 1
        return raw[:end].decode("utf-8")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        self.check_above_mark()
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        self.check_above_mark()
        if type(self.stack[-1]) is not kind:
            raise Damaged(f"a {kind.__name__} expected")
        return self.stack[-1]

    def check_above_mark(self) -> None:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Damaged("too few values")

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise Damaged("no mark")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    # What the instructions do

    def announce(self) -> None:
        if self.number("<B") > 5:
            raise Damaged("a pickle protocol above 5")

    def frame(self) -> None:
        length = self.number("<Q")
        if length > len(self.data) - self.position:
            raise Damaged("a frame longer than the file")

    def small_tuple(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def integer(self, count: int) -> None:
        if count < 0 or count > MAX_INTEGER_BYTES:
            raise Damaged(f"an integer of {count:,} bytes")
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def text(self, count: int, encoding: str = "utf-8") -> None:
        taken = self.take(count)
        self.budget.text -= count
        if self.budget.text < 0:
            raise FacegenError("repeats its text, as no network file does: refused")
        self.push(str(taken, encoding))

    def remember(self, number: int) -> None:
        self.check_above_mark()
        value = self.stack[-1]
        if isinstance(value, Record):
            value.memo_numbers.append(number)
        self.memo[number] = value

    def recall(self, number: int) -> None:
        if number not in self.memo:
            raise Damaged(f"nothing is remembered as {number}")
        self.push(self.memo[number])

    def extend_list(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def extend_dict(self, values: list[Any]) -> None:
        target = self.top(dict)
        if len(values) % 2:
            raise Damaged("a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[checked_key(key)] = value

    def extend_set(self, values: list[Any]) -> None:
        self.top(set).update([checked_key(value) for value in values])

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.extend_dict([key, value])

    def find(self, module: str, name: str) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Damaged("a name that is no text")
        name = f"{module}.{name}"
        if len(name) > MAX_NAME or name not in self.builders:
            raise FacegenError(f"names {shown(name)}, which no network file needs: refused, and nothing of it was run")
        self.push(Global(name))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.find(module, name)

    def construct(self) -> None:
        """REDUCE and NEWOBJ alike: our function of that name, with the file's arguments."""
        arguments, target = self.pop(), self.pop()
        if type(target) is not Global or type(arguments) is not tuple:
            raise Damaged("a call of something that is not a global")
        self.push(self.builders[target.name](*arguments))

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if type(target) is dict and type(state) is dict:
            self.push(target)  # attributes of an OrderedDict or EasyDict: they hold no weights
            return
        if not isinstance(target, Record):
            raise Damaged("state for an object that takes none")
        built = target.build(state)
        if built is not target:
            for number in target.memo_numbers:
                if self.memo[number] is target:
                    self.memo[number] = built
            target.memo_numbers.clear()
        self.push(built)

    def persistent_id(self) -> None:
        if not self.persistent_ids:
            raise FacegenError("refers to objects outside the file (BINPERSID): refused")
        self.check_above_mark()  # the id stays where the object would be


def checked_key(key: Any) -> Any:
    """Return a key of a dictionary or set; other kinds, too long or too large ones could make hashing take forever."""
    if type(key) is str and len(key) <= MAX_KEY:
        return key
    if type(key) is int and -KEY_RANGE <= key < KEY_RANGE:
        return key
    raise Damaged("a dictionary key that is neither a short text nor a small integer")


_Instruction = Callable[[_Machine], Any]
STOP = ord(".")
INSTRUCTIONS: dict[int, _Instruction] = {
    ord(code): instruction
    for code, instruction in {
        "\x80": _Machine.announce,
        "\x95": _Machine.frame,
        # The stack
        "(": lambda m: m.marks.append(len(m.stack)),
        "0": _Machine.pop,
        "1": _Machine.pop_to_mark,
        # Values
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.number("<B")),
        "M": lambda m: m.push(m.number("<H")),
        "G": lambda m: m.push(m.number(">d")),
        "\x8a": lambda m: m.integer(m.number("<B")),
        "\x8b": lambda m: m.integer(m.number("<i")),
        "X": lambda m: m.text(m.number("<I")),
        "\x8c": lambda m: m.text(m.number("<B")),
        "\x8d": lambda m: m.text(m.number("<Q")),
        "C": lambda m: m.push(m.take(m.number("<B"))),
        "B": lambda m: m.push(m.take(m.number("<I"))),
        "\x8e": lambda m: m.push(m.take(m.number("<Q"))),
        "\x96": lambda m: m.push(m.take(m.number("<Q"))),
        # Containers
        ")": lambda m: m.push(()),
        "t": lambda m: m.push(tuple(m.pop_to_mark())),
        "\x85": lambda m: m.small_tuple(1),
        "\x86": lambda m: m.small_tuple(2),
        "\x87": lambda m: m.small_tuple(3),
        "]": lambda m: m.push([]),
        "a": lambda m: m.extend_list([m.pop()]),
        "e": lambda m: m.extend_list(m.pop_to_mark()),
        "}": lambda m: m.push({}),
        "s": _Machine.set_item,
        "u": lambda m: m.extend_dict(m.pop_to_mark()),
        "\x8f": lambda m: m.push(set()),
        "\x90": lambda m: m.extend_set(m.pop_to_mark()),
        # The memo
        "q": lambda m: m.remember(m.number("<B")),
        "r": lambda m: m.remember(m.number("<I")),
        "\x94": lambda m: m.remember(len(m.memo)),
        "h": lambda m: m.recall(m.number("<B")),
        "j": lambda m: m.recall(m.number("<I")),
        # Objects
        "c": lambda m: m.find(m.line(), m.line()),
        "\x93": _Machine.stack_global,
        "R": _Machine.construct,
        "\x81": _Machine.construct,
        "b": _Machine.build,
        "Q": _Machine.persistent_id,
    }.items()
}
PYTHON2: dict[int, _Instruction] = {
    ord("U"): lambda m: m.text(m.number("<B"), "latin-1"),
    ord("T"): lambda m: m.push(m.take(m.number("<I"))),
}
# All others that Python knows; for the message.
REFUSED_INSTRUCTIONS = {
    ord(known.code): known.name for known in pickletools.opcodes if ord(known.code) not in INSTRUCTIONS
}
