"""The netlist reader: numbers, expressions, parts, and errors that name the file and the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyamp.files import InputError
from tinyamp.netlist import TRIODE_BODY, evaluate, parse, with_knobs

TRIODE = (
    ".subckt tube p g k mu=100 ex=1.4 kg1=1060 kp=600 kvb=300 gg=6e-4 cg=13.9 xi=1.35\n"
    + "\n".join(TRIODE_BODY)
    + "\n.ends\n"
)


def deck(*lines: str) -> str:
    return "\n".join(["* a title", "Vin in 0 DC 0", "Rout in out 1k", *lines, ".end"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.7k", 4700.0),
        ("1meg", 1e6),
        ("2.52n", 2.52e-9),
        ("1e-3", 1e-3),
        (".5u", 0.5e-6),
        ("{10k*(1-a)+1}", 7501.0),
        ("{a**2}", 0.0625),
        ("{2*-a}", -0.5),
        ("{1/a - 3m}", 3.997),
    ],
)
def test_values(text: str, value: float) -> None:
    assert evaluate(text, {"a": 0.25}) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    "text",
    ["10q", "a", "{b}", "{a+}", "{1/0}", "{sin(a)}", "{a.real}", "{a if a else 1}", "", "{}"],
)
def test_bad_values(text: str) -> None:
    with pytest.raises(ValueError):
        evaluate(text, {"a": 0.25})


@given(st.floats(0.001, 1000), st.floats(0.001, 1000), st.floats(0.001, 1000))
def test_expressions_follow_the_usual_precedence(a: float, b: float, c: float) -> None:
    known = {"a": a, "b": b, "c": c}
    assert evaluate("{a+b*c-a/b}", known) == pytest.approx(a + b * c - a / b, rel=1e-12, abs=1e-9)


def test_every_part_is_read() -> None:
    net = parse(
        deck(
            ".param gain=0.5 tone=0.25 volume=1",
            ".param half={gain*tone} twice={half*4}",
            "R1 in a {1k*twice}   ; a comment",
            "* another comment",
            "C1 a 0 100n",
            "E1 b 0 a 0",
            "+ 1e5",
            "D1 a b clip",
            "D2 b a clip",
            "X1 b a 0 tube",
            "V1 supply 0 DC 9",
            "R2 supply 0 1k",
            ".model clip D(IS=2.52n N=1.752)",
            ".tran 1u 1m",
            TRIODE,
        )
    )
    assert net.title == "a title"
    assert net.parameters["twice"] == 0.5
    assert [(part.name, part.values) for part in net.resistors] == [
        ("rout", (1000.0,)),
        ("r1", (500.0,)),
        ("r2", (1000.0,)),
    ]
    assert net.amplifiers[0].nodes == ("b", "0", "a", "0")
    assert net.amplifiers[0].values == (1e5,)
    assert net.diodes[0].values == pytest.approx((2.52e-9, 1.752))
    assert net.triodes[0].nodes == ("b", "a", "0")
    assert net.triodes[0].values[0] == 100.0
    assert set(net.nodes()) == {"in", "out", "a", "b", "supply"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Q1 a b c model", "'q1' is not known"),
        ("R1 a 0 {missing*2}", "parameter 'missing' is not known"),
        ("R1 a 0", "needs 2 nodes and one value"),
        ("R1 a 0 -5", "above zero"),
        ("R1 a 0 5 IC=2", "neither a number"),
        ("Rout a 0 5", "there twice"),
        ("D1 a b nosuch", "model 'nosuch' is not defined"),
        ("X1 a b 0 nosuch", "model 'nosuch' is not defined"),
        (".model clip D(IS=1n)", "IS=… N=…"),
        (".model q NPN(BF=100)", "IS=… N=…"),
        (".include other.cir", ".include is not known"),
        (".param a 5", "name=value"),
        (".param 1k", "name=value"),
        (".subckt tube p g k mu=100", "the numbers mu"),
    ],
)
def test_errors_name_the_file_and_the_line(line: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(deck(line), name="my.cir")
    assert "my.cir, line 4: " in str(caught.value)
    assert reason in str(caught.value)


def test_a_triode_with_other_equations_is_refused() -> None:
    with pytest.raises(InputError, match="not the triode's"):
        parse(deck(TRIODE.replace("2/{kg1}", "1/{kg1}")))
    with pytest.raises(InputError, match=r"no \.ends"):
        parse(deck(TRIODE.replace(".ends", "")).replace(".end", ""))


def test_input_and_output_must_be_there() -> None:
    with pytest.raises(InputError, match="no input source called Vin"):
        parse("* t\nV1 in 0 1\nR1 in out 1k\n")
    with pytest.raises(InputError, match="no output node called out"):
        parse("* t\nVin in 0 1\nR1 in 0 1k\n")
    with pytest.raises(InputError, match="Vin"):
        parse("")


def test_knobs_are_filled_in() -> None:
    text = deck(".param gain=0.5 tone=0.5 volume=0.7", "R1 in 0 {1k*gain+tone+volume}")
    net = parse(with_knobs(text, {"gain": 0.125, "tone": 0.3, "volume": 1e-7}))
    assert [net.parameters[k] for k in ("gain", "tone", "volume")] == [0.125, 0.3, 1e-7]
    with pytest.raises(InputError, match="exactly one line"):
        with_knobs(deck(), {"gain": 0.1, "tone": 0.3, "volume": 0.0})
