"""Solve a circuit sample by sample: modified nodal analysis and Newton's method.

The unknowns x are the node voltages and the currents of voltage sources. A capacitor follows the
trapezoidal rule: with the step T and g = 2C/T, its current is i = g v - h, where the state
h = g v + i is known from the step before. Every step is then one resistive network,

    S x = B u + Pc h - Pn i(v),    v = Pn' x,

with the inputs u = (signal, 1), the currents i and the voltages v of the nonlinear ports. S does
not change, so it is inverted once, and what is left is a state space with a small nonlinear core
(the "nodal DK method": Yeh, Abel and Smith, IEEE TASLP 18(4), 2010, the paper's [4]; Yeh,
IEEE TASLP 20(4), 2012, its [5]):

    p = Gh h + Gu u,    solve v = p + K i(v),    y = Lh h + Lu u + Li i,    h' = Ah h + Au u + Ai i.

Each step is solved by damped Newton with the analytic Jacobian, from a linear prediction. A step
that does not converge is counted and reported. The state starts at the DC operating point.

The trapezoidal rule keeps the frequency response up to the audio band's edge at 8 times
oversampling. It can ring at half the *oversampled* rate when a time constant is far below T; the
decimation filter removes that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tinyamp.files import InputError
from tinyamp.netlist import Element, Netlist
from tinyamp.newton import DIODE, PAIR, TRIODE, newton, run

THERMAL_VOLTAGE = 1.380649e-23 * 300.15 / 1.602176634e-19  # volts at 27 °C, as in SPICE
_LEAK = 1e-15  # siemens from every node to ground, so that no node floats at DC
# Newton's last step, in volts, is below this; its error goes with the square over the curvature
# (some 50 mV at a diode or grid, many volts at a plate). The output is then within 2e-6 of full
# scale (-114 dB) of what far smaller tolerances give, in little more than one step a sample.
_TOLERANCE = 5e-4
_PLATE_TOLERANCE = 5e-2


@dataclass
class Solver:
    """A circuit at one step size, with its present state; made by `prepare`.

    `port`, `out` and `state` act on the stacked vector (h, signal, 1, i); see the module's text.
    """

    rate: float
    port: np.ndarray
    out: np.ndarray
    state: np.ndarray
    k: np.ndarray
    kinds: np.ndarray
    first_port: np.ndarray
    numbers: np.ndarray
    tolerance: np.ndarray
    h: np.ndarray
    v: np.ndarray
    v_before: np.ndarray
    operating_point: dict[str, float] = field(default_factory=dict)  # node -> volts at rest
    failed: int = 0  # steps without convergence so far
    newton_steps: int = 0
    samples: int = 0

    def run(self, x: np.ndarray) -> np.ndarray:
        """The output voltage for the input voltages x, both float64 (time,); the state goes on."""
        x = np.ascontiguousarray(x, dtype=np.float64)
        y = np.empty_like(x)
        failed, steps = run(
            x, y, self.h, self.v, self.v_before, self.port, self.out, self.state, self.k,
            self.kinds, self.first_port, self.numbers, self.tolerance,
        )  # fmt: skip
        self.failed += failed
        self.newton_steps += steps
        self.samples += len(x)
        return y


def _ports(netlist: Netlist) -> tuple[list[tuple[str, str]], list[tuple[int, int, list[float]]]]:
    """The nonlinear ports as node pairs, and (kind, first port, numbers) of each device."""
    pairs: list[tuple[str, str]] = []
    devices: list[tuple[int, int, list[float]]] = []
    waiting: list[Element] = list(netlist.diodes)
    while waiting:
        diode = waiting.pop(0)
        partner = next(
            (d for d in waiting if d.nodes == diode.nodes[::-1] and d.values == diode.values), None
        )
        if partner is not None:
            waiting.remove(partner)
        saturation, ideality = diode.values
        numbers = [saturation, 1.0 / (ideality * THERMAL_VOLTAGE)] + [0.0] * 6
        devices.append((DIODE if partner is None else PAIR, len(pairs), numbers))
        pairs.append((diode.nodes[0], diode.nodes[1]))
    for triode in netlist.triodes:
        plate, grid, cathode = triode.nodes
        devices.append((TRIODE, len(pairs), list(triode.values)))
        pairs += [(grid, cathode), (plate, cathode)]
    return pairs, devices


def _stamps(netlist: Netlist, index: dict[str, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrix S of everything but capacitors (size, size), and B for u = (signal, 1)."""
    s, b = np.zeros((size, size)), np.zeros((size, 2))
    for part in netlist.resistors:
        column = _incidence(part.nodes, index, size)
        s += np.outer(column, column) / part.values[0]
    row = len(index)
    for part in netlist.sources + netlist.amplifiers:
        column = _incidence(part.nodes[:2], index, size)
        s[:, row] += column
        s[row] += column
        if part in netlist.amplifiers:
            s[row] -= part.values[0] * _incidence(part.nodes[2:], index, size)
        elif part.name == "vin":
            b[row, 0] = 1.0
        else:
            b[row, 1] = part.values[0]
        row += 1
    return s, b


def _incidence(nodes: tuple[str, ...], index: dict[str, int], size: int) -> np.ndarray:
    """A column with +1 at the first node and -1 at the second; ground has no row."""
    column = np.zeros(size)
    for node, sign in zip(nodes, (1.0, -1.0), strict=True):
        if node != "0":
            column[index[node]] += sign
    return column


def prepare(netlist: Netlist, rate: float, *, name: str = "netlist") -> Solver:
    """The solver of a circuit at `rate` steps a second, at rest in its DC operating point.

    Raises `InputError` when the circuit has no unique solution or no operating point is found.
    """
    index = {node: number for number, node in enumerate(netlist.nodes())}
    size = len(index) + len(netlist.sources) + len(netlist.amplifiers)
    s, b = _stamps(netlist, index, size)
    pairs, devices = _ports(netlist)
    pn = (
        np.stack([_incidence(pair, index, size) for pair in pairs], 1)
        if pairs
        else np.zeros((size, 0))
    )
    pc = (
        np.stack([_incidence(part.nodes, index, size) for part in netlist.capacitors], 1)
        if netlist.capacitors
        else np.zeros((size, 0))
    )
    g = np.array([2.0 * rate * part.values[0] for part in netlist.capacitors])
    kinds = np.array([kind for kind, _, _ in devices], dtype=np.int64)
    first_port = np.array([first for _, first, _ in devices], dtype=np.int64)
    numbers = np.array([values for _, _, values in devices]).reshape(len(devices), 8)

    tolerance = np.full(len(pairs), _TOLERANCE)
    for kind, first, _ in devices:
        if kind == TRIODE:
            tolerance[first + 1] = _PLATE_TOLERANCE

    def unknowns(matrix: np.ndarray) -> np.ndarray:
        """x as a function of (h, signal, 1, i)."""
        try:
            return np.linalg.solve(matrix, np.hstack([pc, b, -pn]))
        except np.linalg.LinAlgError:
            raise InputError(f"{name}: the circuit has no unique solution.") from None

    n_h, n_v = pc.shape[1], pn.shape[1]
    # DC: capacitors are open; every supply is raised from zero in steps (source stepping).
    s += np.diag([_LEAK] * len(index) + [0.0] * (size - len(index)))
    rest = unknowns(s)
    supplies, currents = rest[:, n_h + 1], rest[:, n_h + 2 :]
    v, work = np.zeros(n_v), [np.zeros(n_v) for _ in range(5)]
    i = work[0]
    done, stride = 0.0, 0.1
    while done < 1.0 and n_v:
        level = min(1.0, done + stride)
        trial = v.copy()
        steps = newton(
            pn.T @ supplies * level, np.ascontiguousarray(pn.T @ currents), kinds, first_port,
            numbers, np.full(n_v, 1e-8), trial, *work, np.empty((n_v, n_v)),
        )  # fmt: skip
        if steps > 0:
            done, v, stride = level, trial, stride * 2
        elif (stride := stride / 4) < 1e-6:
            raise InputError(f"{name}: no DC operating point was found.")
    x = supplies + currents @ i
    solve = unknowns(s + (pc * g) @ pc.T)
    state = 2.0 * g[:, None] * (pc.T @ solve)
    state[:, :n_h] -= np.eye(n_h)
    port = np.ascontiguousarray(pn.T @ solve)
    return Solver(
        rate=rate,
        port=np.ascontiguousarray(port[:, : n_h + 2]),
        out=np.ascontiguousarray(solve[index["out"]]),
        state=np.ascontiguousarray(state),
        k=np.ascontiguousarray(port[:, n_h + 2 :]),
        kinds=kinds,
        first_port=first_port,
        numbers=numbers,
        tolerance=tolerance,
        h=g * (pc.T @ x),
        v=v.copy(),
        v_before=v.copy(),
        operating_point={node: float(x[number]) for node, number in index.items()},
    )
