"""Read the small part of SPICE that the simulated devices are written in.

One netlist a device is the single source of truth: ngspice runs the file as it is, and `parse`
reads the same file. What is understood:

    Rname a b value             resistor (ohms)
    Cname a b value             capacitor (farads)
    Vname a b [DC] value        supply; the one called Vin is the input signal
    Ename a b c d gain          ideal amplifier: v(a, b) = gain v(c, d)
    Dname anode cathode model   diode, with .model model D(IS=… N=…)
    Xname p g k triode          vacuum triode, a .subckt with the body `TRIODE_BODY`
    .param name=value …         numbers or {expressions}; the knobs are gain, tone and volume

A value is a number with an optional SPICE suffix (4k7 is written 4.7k) or an {expression} of
numbers, parameters and + - * / ** ( ). Everything else is refused, so that Python and ngspice can
never read one file in two ways.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tinyamp.files import InputError

KNOBS = ("gain", "tone", "volume")
TRIODE_PARAMETERS = ("mu", "ex", "kg1", "kp", "kvb", "gg", "cg", "xi")

# The triode's equations, written for ngspice; `tinyamp.solver` computes the same. Plate current:
# N. Koren, "Improved vacuum tube models for SPICE simulations", Glass Audio 8(5), 1996. Grid
# current: K. Dempwolf and U. Zölzer, "A physically-motivated triode model for circuit
# simulations", DAFx-11, 2011. max(z,0) + ln(1+exp(-abs(z))) is ln(1+exp(z)) without overflow.
TRIODE_BODY = (
    "bp p k i = 2/{kg1} * (max(v(p,k),0)/{kp} * "
    "(max({kp}*(1/{mu} + v(g,k)/sqrt({kvb} + v(p,k)*v(p,k))), 0) + "
    "ln(1 + exp(-abs({kp}*(1/{mu} + v(g,k)/sqrt({kvb} + v(p,k)*v(p,k))))))))**{ex}",
    "bg g k i = {gg} * ((max({cg}*v(g,k), 0) + ln(1 + exp(-abs({cg}*v(g,k)))))/{cg})**{xi}",
)

_SUFFIXES = {"meg": 1e6, "t": 1e12, "g": 1e9, "k": 1e3, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}
_NUMBER = re.compile(
    r"(?<![\w.])(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)(meg|[tgkmunp])?(?!\w)"
)
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_IGNORED = (".tran", ".save", ".options", ".option")


@dataclass(frozen=True)
class Element:
    """One part: its name, its nodes and its numbers (ohms, farads, volts, gain, or a model's)."""

    name: str
    nodes: tuple[str, ...]
    values: tuple[float, ...]


@dataclass
class Netlist:
    """A parsed circuit; a list holds one `Element` each, node "0" is ground."""

    title: str
    parameters: dict[str, float] = field(default_factory=dict)
    resistors: list[Element] = field(default_factory=list)
    capacitors: list[Element] = field(default_factory=list)
    sources: list[Element] = field(default_factory=list)
    amplifiers: list[Element] = field(default_factory=list)
    diodes: list[Element] = field(default_factory=list)  # values: (IS, N)
    triodes: list[Element] = field(default_factory=list)  # values: as TRIODE_PARAMETERS

    def elements(self) -> list[Element]:
        """Every part of the circuit."""
        linear = self.resistors + self.capacitors + self.sources + self.amplifiers
        return linear + self.diodes + self.triodes

    def nodes(self) -> list[str]:
        """The names of all nodes but ground, in order of appearance."""
        names = dict.fromkeys(node for part in self.elements() for node in part.nodes)
        names.pop("0", None)
        return list(names)


def evaluate(text: str, parameters: Mapping[str, float]) -> float:
    """The value of a SPICE number ("4.7k") or {expression}; raises `ValueError` with the reason."""
    text = text.strip().lower()
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    if inner is text and not _NUMBER.fullmatch(text.lstrip("+-")):
        raise ValueError(f"{text!r} is neither a number nor an {{expression}}")
    plain = _NUMBER.sub(lambda m: repr(float(m[1]) * _SUFFIXES.get(m[2] or "", 1.0)), inner)

    def value(node: ast.AST) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.Name):
            if node.id not in parameters:
                raise ValueError(f"the parameter {node.id!r} is not known")
            return parameters[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return float(_OPERATORS[type(node.op)](value(node.left), value(node.right)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        raise ValueError(f"{text!r} uses something other than numbers, names and + - * / **")

    try:
        return value(ast.parse(plain.strip(), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"{text!r} is not an expression") from None
    except (ZeroDivisionError, OverflowError, TypeError) as error:
        raise ValueError(f"{text!r} has no value: {error}") from None


def _assignments(text: str) -> dict[str, str]:
    """`a=1 b={c*2}` as a dictionary of texts."""
    text = re.sub(r"\s*=\s*", "=", text.strip())
    found = re.findall(r"(\w+)=(\{[^}]*\}|[^\s{}]+)", text)
    if " ".join(f"{key}={value}" for key, value in found) != " ".join(text.split()) and re.sub(
        r"\s+", "", "".join(f"{key}={value}" for key, value in found)
    ) != re.sub(r"\s+", "", text):
        raise ValueError(f"{text!r} is not a list of name=value")
    return dict(found)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(line number, text) in lower case, comments dropped and `+` continuations joined."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()[1:], start=2):
        line = line.split(";")[0].rstrip().lower()
        if not line.strip() or line.lstrip().startswith("*"):
            continue
        if line.startswith("+") and lines:
            lines[-1] = (lines[-1][0], lines[-1][1] + " " + line[1:].strip())
        else:
            lines.append((number, line.strip()))
    return lines


def parse(text: str, *, name: str = "netlist") -> Netlist:
    """Read a netlist; its first line is the title, as in SPICE.

    Raises `InputError` with `name` and the line number for anything that is not understood.
    """
    result = Netlist(title=text.splitlines()[0].lstrip("* ").strip() if text.strip() else "")
    models: dict[str, tuple[float, float]] = {}
    triodes: dict[str, tuple[float, ...]] = {}
    uses: list[tuple[int, Element, str]] = []  # diodes and triodes, resolved at the end
    body: list[str] | None = None
    open_subckt = ""
    seen: set[str] = set()
    for number, line in _logical_lines(text):
        word, _, rest = line.partition(" ")
        try:
            if body is not None:  # inside a .subckt
                if word == ".ends":
                    wanted = [re.sub(r"\s+", "", equation) for equation in TRIODE_BODY]
                    if [re.sub(r"\s+", "", equation) for equation in body] != wanted:
                        raise ValueError(f"the body of {open_subckt!r} is not the triode's")
                    body = None
                else:
                    body.append(line)
            elif word == ".subckt":
                match = re.fullmatch(r"(\w+)\s+p\s+g\s+k\s+(.+)", rest.strip())
                if not match:
                    raise ValueError("expected .subckt name p g k with the triode's numbers")
                found = _assignments(match[2])
                if tuple(found) != TRIODE_PARAMETERS:
                    raise ValueError("expected the numbers " + ", ".join(TRIODE_PARAMETERS))
                open_subckt, body = match[1], []
                triodes[match[1]] = tuple(evaluate(value, {}) for value in found.values())
            elif word == ".param":
                for key, value in _assignments(rest).items():
                    result.parameters[key] = evaluate(value, result.parameters)
            elif word == ".model":
                match = re.fullmatch(r"(\w+)\s+d\s*\(([^()]*)\)", rest.strip())
                found = _assignments(match[2]) if match else {}
                if match is None or set(found) != {"is", "n"}:
                    raise ValueError("expected .model name D(IS=… N=…)")
                models[match[1]] = (evaluate(found["is"], {}), evaluate(found["n"], {}))
            elif word == ".end":
                break
            elif word.startswith("."):
                if word not in _IGNORED:
                    raise ValueError(f"the command {word} is not known")
            else:
                if word in seen:
                    raise ValueError(f"{word} is there twice")
                seen.add(word)
                _add_element(result, uses, number, word, rest)
        except ValueError as error:
            raise InputError(f"{name}, line {number}: {error}.") from None
    if body is not None:
        raise InputError(f"{name}: .subckt {open_subckt} has no .ends.")
    for number, part, model in uses:
        table, parts = (models, result.diodes) if part.name[0] == "d" else (triodes, result.triodes)
        if model not in table:
            raise InputError(f"{name}, line {number}: the model {model!r} is not defined.")
        parts.append(Element(part.name, part.nodes, table[model]))
    if not any(source.name == "vin" for source in result.sources):
        raise InputError(f"{name}: there is no input source called Vin.")
    if "out" not in result.nodes():
        raise InputError(f"{name}: there is no output node called out.")
    return result


def _add_element(
    result: Netlist, uses: list[tuple[int, Element, str]], number: int, word: str, rest: str
) -> None:
    """Add one part to `result`, or to `uses` when it names a model; raises `ValueError`."""
    kind = word[0]
    counts = {"r": 2, "c": 2, "v": 2, "e": 4, "d": 2, "x": 3}
    if kind not in counts:
        raise ValueError(f"the element {word!r} is not known (R, C, V, E, D and X are)")
    fields = rest.split(None, counts[kind])
    if len(fields) != counts[kind] + 1:
        raise ValueError(f"{word} needs {counts[kind]} nodes and one value")
    nodes, last = tuple(fields[:-1]), fields[-1].strip()
    if kind in "dx":
        uses.append((number, Element(word, nodes, ()), last))
        return
    if kind == "v":
        last = re.sub(r"^dc\s+", "", last)
    value = evaluate(last, result.parameters)
    if kind in "rc" and not value > 0:
        raise ValueError(f"{word} is {value:g}, but must be above zero")
    parts = {
        "r": result.resistors,
        "c": result.capacitors,
        "v": result.sources,
        "e": result.amplifiers,
    }
    parts[kind].append(Element(word, nodes, (value,)))


def with_knobs(text: str, values: Mapping[str, float]) -> str:
    """The netlist `text` with other knob values: its line `.param gain=… tone=… volume=…`."""
    line = ".param " + " ".join(f"{knob}={float(values[knob])!r}" for knob in KNOBS)
    new, count = re.subn(r"(?im)^\.param\s+gain=\S+\s+tone=\S+\s+volume=\S+[ \t]*$", line, text)
    if count != 1:
        raise InputError("The netlist needs exactly one line .param gain=… tone=… volume=….")
    return new
