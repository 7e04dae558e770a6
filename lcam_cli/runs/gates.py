"""What a pipeline asks of a result: thresholds, and not to be worse than an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lcam_cli.errors import LcamError
from lcam_cli.runs import checks as c

if TYPE_CHECKING:
    from lcam_cli.measures.measure import Quantity
    from lcam_cli.reports.baseline import Baseline
    from lcam_cli.reports.image_numbers import GatheredNumbers, ImageNumbers
    from lcam_cli.reports.results import Results
    from lcam_cli.runs.reporter import Reporter


@dataclass(frozen=True)
class GateOptions:
    """Thresholds that a result must meet.

    Attributes:
        max_ad: The highest AD that passes, in percent: one number for every ν, or numbers by ν,
            ``{50: 30, 15: 75}``; None for any.
        min_ic: The lowest IC that passes, likewise.
        worse_than: The JSON of an earlier run; None for none.
        by: How much worse than there AD and IC may be, in percentage points.

    Raises:
        LcamError: A value is of a wrong kind, or one of the last two stands alone.
    """

    max_ad: float | Mapping[float, float] | None = None
    min_ic: float | Mapping[float, float] | None = None
    worse_than: Path | None = None
    by: float | None = None

    CHECKS: ClassVar[dict[str, c.Check]] = {
        "max_ad": c.optional(c.threshold),
        "min_ic": c.optional(c.threshold),
        "worse_than": c.optional(c.path),
        "by": c.optional(c.number(0)),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)
        if self.worse_than is not None and self.by is None:
            raise LcamError(
                f"--worse-than {self.worse_than}: by how much may a result be worse?",
                "add --by X, in percentage points, e.g. --by 2",
            )
        if self.by is not None and self.worse_than is None:
            raise LcamError(
                "--by says by how much, but not than what", "add --worse-than FILE.json"
            )

    @property
    def asked(self) -> bool:
        """Whether any is asked for."""
        return any(one is not None for one in (self.max_ad, self.min_ic, self.worse_than))

    def check_nus(self, nus: Sequence[float]) -> None:
        """Refuse a threshold at a ν that is not measured: it would pass whatever comes.

        Raises:
            LcamError: There is one.
        """
        for option, bounds in (("--max-ad", self.max_ad), ("--min-ic", self.min_ic)):
            for nu in bounds if isinstance(bounds, Mapping) else ():
                if nu not in nus:
                    raise LcamError(
                        f"{option} has a threshold at ν = {nu:g}, which --nu does not ask for",
                        f"measure there too: --nu {','.join(f'{one:g}' for one in (*nus, nu))}",
                    )


@dataclass(frozen=True)
class Gates:
    """Thresholds, and the earlier result that was read for them.

    Attributes:
        options: What is asked for.
        baseline: The earlier result; None for none.
    """

    options: GateOptions
    baseline: Baseline | None = None

    @classmethod
    def of(cls, options: Any) -> Gates:
        """Read what the ``gates`` of options name, before any work is done.

        Args:
            options: Those of an evaluation or a comparison.

        Raises:
            LcamError: The earlier result cannot be read, or was measured otherwise.
        """
        gates: GateOptions = options.gates
        if gates.worse_than is None:
            return cls(gates)
        from lcam_cli.reports.baseline import read_baseline  # noqa: PLC0415 (few runs need it)

        baseline = read_baseline(gates.worse_than)
        baseline.check_fits(options.nu, options.mask_space, options.keep)
        return cls(gates, baseline)

    def check_methods(self, methods: Sequence[str], reporter: Reporter) -> None:
        """Say which methods the earlier result does not have.

        Raises:
            LcamError: It has none of them.
        """
        if self.baseline is not None and (missing := self.baseline.check_methods(methods)):
            reporter.warn(f"{self.baseline.file} has no {', '.join(missing)}: not compared with it")

    def gatherer(
        self, methods: Sequence[str], measured: Sequence[Quantity]
    ) -> GatheredNumbers | None:
        """Return what gathers the numbers of single images; None where nobody needs them."""
        if self.baseline is None or self.baseline.numbers is None:
            return None
        from lcam_cli.reports.image_numbers import GatheredNumbers  # noqa: PLC0415

        return GatheredNumbers(methods, measured)

    def held(
        self, results: Results, numbers: ImageNumbers | None, seed: int, reporter: Reporter
    ) -> Results:
        """Return results with what every threshold says of them."""
        if not self.options.asked:
            return results
        from lcam_cli.reports.gates import check_gates  # noqa: PLC0415

        gates = check_gates(results, self.options.max_ad, self.options.min_ic)
        if self.baseline is not None and self.options.by is not None:
            from lcam_cli.reports.baseline import check_worse  # noqa: PLC0415

            worse, how = check_worse(results, self.baseline, self.options.by, numbers, seed)
            gates += worse
            if how:
                reporter.warn(how)
        return replace(results, gates=gates)


def missed(results: Results) -> tuple[str, ...]:
    """Return a line for every threshold missed."""
    return tuple(gate.words for gate in results.gates or () if not gate.passed)
