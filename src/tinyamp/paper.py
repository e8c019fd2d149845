"""Table I as the paper prints it, to put beside the study's own.

Of the numbers, only losses and real-time factors are measurements; how many weights were pruned
and how many parameters are left follow from the number of iterations: `expected_parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass

# The simulated device that stands for each of the paper's: short memory first, then long.
STANDS_FOR = {
    "sim-muff": "Big Muff",
    "sim-crunch": "Mesa",
    "sim-lead": "HT-1",
    "sim-metal": "HT-5",
}
SHORT_MEMORY = ("sim-muff", "sim-crunch")  # V-B: Big Muff and Mesa settle sooner


@dataclass(frozen=True)
class TableRow:
    """A row of Table I; what is not known is None. Losses are plain test ESRs, as ratios."""

    device: str
    size: int
    seed: int = 0
    units: int | None = None
    parameters: int | None = None
    pruned_parameters: int | None = None
    sparsity: float | None = None
    stage: int | None = None
    test_esr: float | None = None
    pruned_test_esr: float | None = None
    one_shot_test_esr: float | None = None
    rtf: float | None = None  # of the engine
    pruned_rtf: float | None = None

    @property
    def label(self) -> str:
        """Such as "sim-muff 32"."""
        return f"{self.device} {self.size}"

    @property
    def finished(self) -> bool:
        """Whether the row has an unpruned and a pruned model."""
        return self.pruned_test_esr is not None

    @property
    def ratio(self) -> float | None:
        """Test ESR after pruning over that before."""
        return self.pruned_test_esr / self.test_esr if self.finished else None

    @property
    def speedup(self) -> float | None:
        """How many times as fast the pruned model runs; None if the two have not been timed."""
        if not self.finished or self.rtf is None or self.pruned_rtf is None:
            return None
        return self.rtf / self.pruned_rtf


def _row(device, size, units, parameters, left, pruned, stage, loss, after, rtf, pruned_rtf):
    return TableRow(
        device=device,
        size=size,
        units=units,
        parameters=parameters,
        pruned_parameters=left,
        sparsity=pruned / 100,
        stage=stage,
        test_esr=loss / 100,
        pruned_test_esr=after / 100,
        rtf=rtf,
        pruned_rtf=pruned_rtf,
    )


# Table I, digit by digit, with the name of the simulated device. `stage`, the number of iterations,
# is not printed there: it is the one whose number of parameters fits. 99.6 % is printed, and is
# an erratum: it must be 98.6 %.
TABLE_I = (
    _row("sim-muff", 32, 32, 4480, 753, 88.2, 6, 7.3, 7.0, 0.091, 0.089),
    _row("sim-muff", 64, 20, 17152, 390, 99.6, 12, 5.5, 5.4, 0.184, 0.057),
    _row("sim-muff", 96, 24, 38016, 369, 99.5, 15, 4.4, 4.2, 0.223, 0.060),
    _row("sim-lead", 32, 32, 4480, 1270, 76.0, 4, 3.5, 3.9, 0.108, 0.100),
    _row("sim-lead", 64, 60, 17152, 2438, 88.2, 6, 1.7, 1.7, 0.206, 0.173),
    _row("sim-lead", 96, 76, 38016, 3676, 91.8, 7, 1.0, 1.2, 0.246, 0.187),
    _row("sim-crunch", 32, 26, 4480, 452, 94.2, 8, 0.61, 0.59, 0.102, 0.079),
    _row("sim-crunch", 64, 29, 17152, 903, 96.0, 9, 0.31, 0.34, 0.195, 0.083),
    _row("sim-crunch", 96, 24, 38016, 929, 98.0, 11, 0.22, 0.21, 0.219, 0.072),
    _row("sim-metal", 32, 32, 4480, 1705, 65.7, 3, 6.0, 5.8, 0.111, 0.105),
    _row("sim-metal", 64, 54, 17152, 4427, 76.0, 4, 3.8, 3.9, 0.210, 0.127),
    _row("sim-metal", 96, 57, 38016, 2603, 94.2, 8, 1.2, 1.4, 0.249, 0.165),
)


def expected_parameters(size: int, stage: int, units: int) -> float:
    """Parameters left after `stage` iterations at 30 %, with `units` of `size` alive.

    The pool is the two matrices of an LSTM with one input, and every living unit keeps its eight
    biases. Rounded, this is what Table I prints, in all twelve rows; a count of weights, which is
    rounded in every iteration, is another in four. So the column was calculated, and shows the
    pool that was meant: the authors' released code has the output layer in it, too.
    """
    return (4 * size + 4 * size**2) * 0.7**stage + 8 * units
