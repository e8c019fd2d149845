"""One run of a chapter whose assertions are written down and do not stop it.

`tinyamp.book_claims` starts it in a process of its own, where rounding and seeds can be changed.
"""

from __future__ import annotations

import ast
import json
import operator
import sys
from dataclasses import replace
from pathlib import Path

from tinyamp.files import InputError, data_folder

NOISE = 1e-6  # of a weight: some ten roundings of float32
SEED_STEP = 1000  # far from the seeds that a chapter uses itself
_SYMBOLS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_TESTS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_CLAIM, _COMPARE = "_claim_of_the_chapter", "_compared_in_the_chapter"


def code_cells(path: Path) -> list[str]:
    """The code cells of a notebook, in order; raises `InputError` if it cannot be read."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a notebook that can be read: {error!r}.") from error


class _Weighed(ast.NodeTransformer):
    """Makes assertions outside functions into calls that write down what they found."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        text = node.msg or ast.Constant(ast.unparse(node.test))
        call = _call(_CLAIM, ast.Constant(node.lineno), text, _weighed(node.test))
        return ast.copy_location(ast.Expr(call), node)

    def visit_FunctionDef(self, node: ast.AST) -> ast.AST:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _weighed(node: ast.expr) -> ast.expr:
    """The expression, with those comparisons in it written down that must all hold."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        node.values = [_weighed(value) for value in node.values]
    elif isinstance(node, ast.Compare) and all(type(op) in _SYMBOLS for op in node.ops):
        symbols = ast.Constant(tuple(_SYMBOLS[type(op)] for op in node.ops))
        return _call(_COMPARE, symbols, node.left, *node.comparators)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "all":
        for each in node.args:
            if isinstance(each, ast.GeneratorExp):
                each.elt = _weighed(each.elt)
    return node


def rewritten(source: str) -> ast.Module:
    """A cell's code, with its assertions, but those inside functions, made into calls."""
    return ast.fix_missing_locations(_Weighed().visit(ast.parse(source)))


def _number(value: object) -> float | None:
    try:
        return None if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def run_chapter(path: Path) -> dict:
    """Run all code cells in this process: their `claims`, and the `error` that ended it, or None.

    A claim has its `cell` (counted from 1, as Jupyter counts them), `line`, `text`, whether it
    `held`, and the `sides` of its comparisons: [left, operator, right], None for what is no number.
    """
    claims: list[dict] = []
    sides: list[list] = []

    def compare(symbols: tuple[str, ...], *values: object) -> bool:
        for symbol, a, b in zip(symbols, values, values[1:], strict=False):
            sides.append([_number(a), symbol, _number(b)])
            if not _TESTS[symbol](a, b):
                return False
        return True

    def claim(line: int, text: object, held: object) -> None:
        here = {"cell": number, "line": line, "text": " ".join(str(text).split())}
        claims.append({**here, "held": bool(held), "sides": sides.copy()})
        sides.clear()

    names = {"__name__": "__main__", _CLAIM: claim, _COMPARE: compare}
    for number, source in enumerate(code_cells(path), start=1):
        try:
            exec(compile(rewritten(source), f"cell {number}", "exec", dont_inherit=True), names)
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())
            return {"claims": claims, "error": f"cell {number}: {type(error).__name__}: {text}"}
        if "matplotlib.pyplot" in sys.modules:  # as a notebook does
            sys.modules["matplotlib.pyplot"].close("all")
    return {"claims": claims, "error": None}


def disturb(run: int, shift: int) -> None:
    """From now on, in this process: other rounding in all weights, and other seeds.

    First weights, and weights that ship, are multiplied by 1 + 1e-6 · noise, the noise of this
    `run`; `AmpLSTM` and the order of the segments get their seed plus 1000 · `shift`. To be called
    before other modules of the library are imported, as they take these functions by name.
    """
    import torch

    from tinyamp import model, presets

    draw, order = model.AmpLSTM.__init__, presets.epoch_order

    def shaken(net: model.AmpLSTM) -> model.AmpLSTM:
        generator = torch.Generator().manual_seed(run)  # afresh, so that equal models stay equal
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1 + NOISE * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        return net

    def drawn(self, *others, seed: int = 0, **named) -> None:
        draw(self, *others, seed=seed + SEED_STEP * shift, **named)
        shaken(self)

    def ordered(settings, *others, **named):
        return order(replace(settings, seed=settings.seed + SEED_STEP * shift), *others, **named)

    def shipped(load):  # what the chapter has saved itself comes back as it was
        def loaded(path, *others, **named):
            net = load(path, *others, **named)
            inside = Path(path).resolve().is_relative_to(data_folder().resolve())
            return shaken(net) if inside else net

        return loaded

    model.AmpLSTM.__init__, presets.epoch_order = drawn, ordered
    model.load_model = shipped(model.load_model)

    from tinyamp import study_record

    study_record.load_weights = shipped(study_record.load_weights)


if __name__ == "__main__":
    chapter, run, shift, result = sys.argv[1:]
    if int(run):  # run 0 is the chapter as it stands
        disturb(int(run), int(shift))
    found = run_chapter(Path(chapter))
    Path(result).write_text(json.dumps(found), encoding="utf-8")
