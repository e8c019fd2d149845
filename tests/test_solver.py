"""The circuit solver against closed forms and an independent ordinary-differential solve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.signal import bilinear, lfilter

from tinyamp.files import InputError
from tinyamp.netlist import TRIODE_BODY, parse
from tinyamp.solver import THERMAL_VOLTAGE, prepare

RATE = 352_800.0


def circuit(*lines: str):
    return parse("\n".join(["* test", "Vin in 0 DC 0", *lines]))


def test_an_rc_filter_is_its_bilinear_transform() -> None:
    r, c = 10e3, 2.2e-9
    x = np.random.default_rng(0).standard_normal(5000)
    y = prepare(circuit("R1 in out 10k", "C1 out 0 2.2n"), RATE).run(x)
    # The trapezoidal rule is the bilinear transform of 1 / (1 + s R C).
    np.testing.assert_allclose(y, lfilter(*bilinear([1], [r * c, 1], RATE), x), atol=1e-10)


def test_an_rc_filter_rings_out_as_the_exponential() -> None:
    x = np.ones(2000)
    x[0] = 0.5  # a step in the middle of the first interval, as the trapezoidal rule sees it
    y = prepare(circuit("R1 in out 10k", "C1 out 0 22n"), RATE).run(x)
    exact = 1.0 - np.exp(-np.arange(2000) / RATE / (10e3 * 22e-9))
    np.testing.assert_allclose(y[1:], exact[1:], atol=1e-4)


def test_an_op_amp_amplifies_and_a_divider_divides() -> None:
    net = circuit("R1 in m 10k", "R2 m a 47k", "E1 a 0 0 m 1e6", "R3 a out 1k", "R4 out 0 3k")
    x = np.linspace(-1, 1, 11)
    np.testing.assert_allclose(prepare(net, RATE).run(x), -4.7 * 0.75 * x, rtol=1e-4, atol=1e-9)


def test_a_diode_clipper_is_what_a_stiff_solver_finds() -> None:
    """Yeh's diode clipper, C dv/dt = (u - v)/R - 2 IS sinh(v / N VT), by brute force."""
    r, c, saturation, scale = 2.2e3, 10e-9, 2.52e-9, 1.752 * THERMAL_VOLTAGE
    rate = 20 * 44_100.0
    t = np.arange(4000) / rate

    def u(time):
        return 4.0 * np.sin(2 * np.pi * 1000 * time) + np.sin(2 * np.pi * 3300 * time)

    def slope(time, v):
        return ((u(time) - v) / r - 2 * saturation * np.sinh(v / scale)) / c

    wanted = solve_ivp(slope, (0, t[-1]), [0.0], method="LSODA", t_eval=t, rtol=1e-9, atol=1e-11).y[
        0
    ]
    net = circuit(
        "R1 in out 2.2k", "C1 out 0 10n", "D1 out 0 d", "D2 0 out d", ".model d D(IS=2.52n N=1.752)"
    )
    solver = prepare(net, rate)
    found = solver.run(u(t))
    assert solver.failed == 0
    assert np.sum((found - wanted) ** 2) < 1e-5 * np.sum(wanted**2)


def test_a_single_diode_without_memory_is_the_root_of_its_equation() -> None:
    net = circuit("R1 in out 1k", "D1 out 0 d", ".model d D(IS=1e-14 N=1)")
    x = np.concatenate([np.linspace(-50, 50, 301), [50.0, -50.0, 50.0]])  # jumps too
    solver = prepare(net, RATE)
    found = solver.run(x)
    wanted = [
        brentq(
            lambda v, u=u: (u - v) / 1e3 - 1e-14 * np.expm1(v / THERMAL_VOLTAGE),
            -60,
            1.2,
            xtol=1e-13,
        )
        for u in x
    ]
    assert solver.failed == 0
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_triode_stage_solves_korens_equations() -> None:
    mu, ex, kg1, kp, kvb, gg, cg, xi = 100, 1.4, 1060, 600, 300, 6.06e-4, 13.9, 1.354
    net = circuit(
        "R1 in g 47k",
        "X1 out g k tube",
        "Rk k 0 1.5k",
        "Rp b out 100k",
        "V1 b 0 DC 250",
        ".subckt tube p g k mu=100 ex=1.4 kg1=1060 kp=600 kvb=300 gg=6.06e-4 cg=13.9 xi=1.354",
        *TRIODE_BODY,
        ".ends",
    )
    solver = prepare(net, RATE)
    assert 1.0 < solver.operating_point["k"] < 1.6  # a 12AX7's usual bias
    x = np.linspace(-6, 6, 400)
    plate = solver.run(x)
    assert solver.failed == 0
    # Solve the same stage by nested bracketing: for a cathode voltage, the currents must agree.
    for u, found in zip(x[::13], plate[::13], strict=True):

        def grid(vk, u=u):
            def law(vg):
                current = gg * (np.logaddexp(0, cg * (vg - vk)) / cg) ** xi
                return (u - vg) / 47e3 - current

            vg = brentq(law, -20, 20, xtol=1e-13)
            return vg, (u - vg) / 47e3

        def balance(vk, u=u):
            vg, ig = grid(vk, u)
            ip = vk / 1.5e3 - ig
            vp = 250 - 100e3 * ip - vk
            drive = (
                max(vp, 0) / kp * np.logaddexp(0, kp * (1 / mu + (vg - vk) / np.sqrt(kvb + vp**2)))
            )
            return 2 / kg1 * drive**ex - ip

        vk = brentq(balance, 0, 10, xtol=1e-13)
        assert found == pytest.approx(250 - 100e3 * (vk / 1.5e3 - grid(vk)[1]), abs=2e-3)


def test_the_circuit_starts_settled() -> None:
    net = circuit(
        "R1 in a 10k", "C1 a out 1u", "R2 out 0 10k", "V1 b 0 DC 9", "R3 b a 1k", "C2 b a 10n"
    )
    solver = prepare(net, RATE)
    assert solver.operating_point["a"] == pytest.approx(9 * 10 / 11)
    np.testing.assert_allclose(solver.run(np.zeros(100)), 0.0, atol=1e-7)


def test_blocks_are_as_good_as_one_run() -> None:
    lines = ("R1 in out 1k", "C1 out 0 10n", "D1 out 0 d", ".model d D(IS=1n N=2)")
    x = np.random.default_rng(1).standard_normal(1000)
    whole = prepare(circuit(*lines), RATE).run(x)
    parts = prepare(circuit(*lines), RATE)
    np.testing.assert_array_equal(whole, np.concatenate([parts.run(x[:1]), parts.run(x[1:])]))


def test_failed_steps_are_counted() -> None:
    net = circuit("R1 in out 1k", "D1 out 0 d", ".model d D(IS=1n N=2)")
    solver = prepare(net, RATE)
    solver.run(np.array([0.1, np.nan, 0.1]))
    assert solver.failed >= 1


def test_a_circuit_without_a_solution_is_refused() -> None:
    with pytest.raises(InputError, match="no unique solution"):
        prepare(circuit("V2 in 0 DC 1", "R1 in out 1k", "R2 out 0 1k"), RATE)
