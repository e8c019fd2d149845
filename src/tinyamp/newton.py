"""The inner loop of the solver in Numba: port currents, damped Newton, one step after another.

The names are those of `tinyamp.solver`: p, K, i(v) and v of the nonlinear ports, h the states of
the capacitors. All arrays are float64 and made by the caller.
"""

from __future__ import annotations

import numpy as np
from numba import njit

DIODE, PAIR, TRIODE = 0, 1, 2
MAX_STEPS = 80
# Sums may be reordered (they vectorise then); NaN and infinity keep their meaning.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


@njit(cache=True, fastmath=_FAST, error_model="numpy")
def _currents(kinds, first_port, numbers, v, i, own, cross):
    """Port currents i(v) with di/dv of the same port (own) and of the port before it (cross)."""
    for d in range(kinds.shape[0]):
        a = first_port[d]
        if kinds[d] == TRIODE:
            mu, ex, kg1, kp = numbers[d, 0], numbers[d, 1], numbers[d, 2], numbers[d, 3]
            kvb, gg, cg, xi = numbers[d, 4], numbers[d, 5], numbers[d, 6], numbers[d, 7]
            vg, vp = v[a], v[a + 1]
            # Grid current: gg (ln(1 + e^c) / cg)^xi.
            c = cg * vg
            if c < -15.0:  # ln(1 + e^c) = e^c to 1e-7 of a current below a nanoampere
                i[a] = gg * np.exp(xi * (c - np.log(cg)))
                own[a] = xi * cg * i[a]
            else:
                e = np.exp(-abs(c))
                soft = max(c, 0.0) + np.log1p(e)
                slope = (1.0 if c >= 0.0 else e) / (1.0 + e)
                i[a] = gg * np.exp(xi * np.log(soft / cg))
                own[a] = xi * i[a] / soft * cg * slope
            cross[a] = 0.0
            # Plate current: 2/kg1 (vp/kp ln(1 + e^z))^ex, z = kp (1/mu + vg/sqrt(kvb + vp²)).
            i[a + 1] = own[a + 1] = cross[a + 1] = 0.0
            if vp > 0.0:
                root = 1.0 / np.sqrt(kvb + vp * vp)
                z = kp * (1.0 / mu + vg * root)
                e = np.exp(-abs(z))
                soft = max(z, 0.0) + np.log1p(e)
                slope = (1.0 if z >= 0.0 else e) / (1.0 + e)
                drive = vp / kp * soft
                if drive > 1e-30:
                    now = 2.0 / kg1 * np.exp(ex * np.log(drive))
                    i[a + 1] = now
                    rate = ex * now / drive
                    own[a + 1] = rate * (soft / kp - vp * vp * slope * vg * root * root * root)
                    cross[a + 1] = rate * vp * slope * root
        else:
            saturation, scale = numbers[d, 0], numbers[d, 1]
            u = v[a] * scale
            cross[a] = 0.0
            size = min(abs(u), 80.0) if kinds[d] == PAIR else min(u, 80.0)
            over = abs(u) - 80.0 if kinds[d] == PAIR else u - 80.0
            grow = np.exp(size)
            if kinds[d] == PAIR:  # two antiparallel diodes: 2 IS sinh(u)
                now = saturation * (grow - 1.0 / grow)
                own[a] = saturation * scale * (grow + 1.0 / grow)
                if over > 0.0:  # far beyond any solution: go on as a straight line
                    now += saturation * grow * over
                i[a] = now if u >= 0.0 else -now
            else:
                own[a] = saturation * scale * grow
                i[a] = saturation * (grow - 1.0) + (saturation * grow * over if over > 0 else 0.0)


@njit(cache=True, fastmath=_FAST, error_model="numpy")
def _residual(p, k, v, i, r):
    """r = p + K i - v; returns the largest |r|, or infinity when it is not a number."""
    n = v.shape[0]
    largest = 0.0
    for a in range(n):
        total = p[a] - v[a]
        for b in range(n):
            total += k[a, b] * i[b]
        r[a] = total
        if not abs(total) <= largest:
            largest = abs(total)
    return largest if largest == largest else np.inf


@njit(cache=True, fastmath=_FAST, error_model="numpy")
def newton(p, k, kinds, first_port, numbers, tolerance, v, i, own, cross, r, trial, jacobian):
    """Solve v = p + K i(v) in place; returns the number of steps, or -1 without convergence."""
    n = v.shape[0]
    _currents(kinds, first_port, numbers, v, i, own, cross)
    size = _residual(p, k, v, i, r)
    for step in range(1, MAX_STEPS + 1):
        for a in range(n):
            for b in range(n):
                value = -k[a, b] * own[b]
                if b + 1 < n:
                    value -= k[a, b + 1] * cross[b + 1]
                jacobian[a, b] = value
            jacobian[a, a] += 1.0
        # Gaussian elimination with row pivoting; r becomes the Newton step.
        for a in range(n):
            pivot = a
            for b in range(a + 1, n):
                if abs(jacobian[b, a]) > abs(jacobian[pivot, a]):
                    pivot = b
            if pivot != a:
                for b in range(a, n):
                    jacobian[a, b], jacobian[pivot, b] = jacobian[pivot, b], jacobian[a, b]
                r[a], r[pivot] = r[pivot], r[a]
            inverse = 1.0 / jacobian[a, a]
            for b in range(a + 1, n):
                factor = jacobian[b, a] * inverse
                if factor != 0.0:
                    for c in range(a + 1, n):
                        jacobian[b, c] -= factor * jacobian[a, c]
                    r[b] -= factor * r[a]
        small = True
        for a in range(n - 1, -1, -1):
            total = r[a]
            for b in range(a + 1, n):
                total -= jacobian[a, b] * r[b]
            r[a] = total / jacobian[a, a]
            small = small and abs(r[a]) <= tolerance[a]
        if small:  # the last step is so small that the currents may follow it linearly
            for a in range(n):
                i[a] += own[a] * r[a]
                if a > 0:
                    i[a] += cross[a] * r[a - 1]
            for a in range(n):
                v[a] += r[a]
            return step
        share = 1.0
        for a in range(n):
            trial[a] = r[a]
        for _ in range(30):
            for a in range(n):
                v[a] += share * trial[a]
            _currents(kinds, first_port, numbers, v, i, own, cross)
            new = _residual(p, k, v, i, r)
            if new < size * (1.0 - 1e-4 * share) or new < 1e-9:
                break
            for a in range(n):  # no progress: back, and half as far
                v[a] -= share * trial[a]
            share *= 0.5
        else:
            _currents(kinds, first_port, numbers, v, i, own, cross)
            return -1
        size = new
    return -1


@njit(cache=True, fastmath=_FAST, error_model="numpy")
def run(x, y, h, v, v_before, port, out, state, k, kinds, first_port, numbers, tolerance):
    """Run the circuit over x into y; rows of port, out, state act on (h, signal, 1, [i])."""
    n_h, n_v = h.shape[0], v.shape[0]
    p, i, own = np.empty(n_v), np.zeros(n_v), np.zeros(n_v)
    cross, r, trial = np.zeros(n_v), np.zeros(n_v), np.zeros(n_v)
    start = np.empty(n_v)
    jacobian = np.empty((n_v, n_v))
    new_h = np.empty(n_h)
    failed = 0
    total_steps = 0
    for t in range(x.shape[0]):
        for a in range(n_v):
            total = port[a, n_h] * x[t] + port[a, n_h + 1]
            for b in range(n_h):
                total += port[a, b] * h[b]
            p[a] = total
            start[a] = v[a]
            v[a] += v[a] - v_before[a]  # linear prediction
        steps = newton(
            p, k, kinds, first_port, numbers, tolerance, v, i, own, cross, r, trial, jacobian
        )
        if steps < 0:  # once more, from the last solution instead of the prediction
            v[:] = start
            steps = newton(
                p, k, kinds, first_port, numbers, tolerance, v, i, own, cross, r, trial, jacobian
            )
            if steps < 0:
                failed += 1
                steps = MAX_STEPS
        total_steps += steps
        v_before[:] = start
        total = out[n_h] * x[t] + out[n_h + 1]
        for b in range(n_h):
            total += out[b] * h[b]
        for b in range(n_v):
            total += out[n_h + 2 + b] * i[b]
        y[t] = total
        for a in range(n_h):
            total = state[a, n_h] * x[t] + state[a, n_h + 1]
            for b in range(n_h):
                total += state[a, b] * h[b]
            for b in range(n_v):
                total += state[a, n_h + 2 + b] * i[b]
            new_h[a] = total
        h[:] = new_h
    return failed, total_steps
