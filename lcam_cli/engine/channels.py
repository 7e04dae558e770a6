"""How many channels a network's images have, and by which numbers they are normalised.

A source may know it, and the user may say it. Else three channels are tried first, and where a
network takes another number, the source's mean and standard deviation are averaged for it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lcam_cli.errors import LcamError, plural
from lcam_cli.images.preprocess import Preprocess

Numbers = float | tuple[float, ...]
"""One number for all channels, or one a channel."""


@dataclass(frozen=True)
class Channels:
    """What the user says of an image's channels; None where they say nothing.

    Attributes:
        count: C.
        mean: Subtracted from values in 0..1.
        std: What the difference is divided by.
    """

    count: int | None = None
    mean: Numbers | None = None
    std: Numbers | None = None

    def applied_to(self, own: Preprocess, channels: int, name: str) -> Preprocess:
        """The preprocessing of a network of so many channels.

        Args:
            own: What its source says.
            channels: C, what the network takes.
            name: The network, for messages.

        Raises:
            LcamError: Mean or standard deviation have neither one number nor C.
        """
        changes = {
            what: _of_all(what, value, channels, name)
            for what, value in (("mean", self.mean), ("std", self.std))
            if value is not None
        }
        return dataclasses.replace(own.with_channels(channels), **changes)  # type: ignore[arg-type]

    def tried_with(self, own: Preprocess, channels: int) -> Preprocess:
        """The preprocessing of the images that a network is tried with at first.

        Numbers that do not go with so many channels may go with what the network turns out to take.
        """
        numbers = {"mean": self.mean, "std": self.std}
        fits = {
            what: value
            for what, value in numbers.items()
            if not isinstance(value, tuple) or len(value) in (1, channels)
        }
        return Channels(channels, **fits).applied_to(own, channels, "")

    def note(
        self, name: str, own: Preprocess, channels: int, *, found: bool, known: bool
    ) -> str | None:
        """What the user should know of a network that takes other images than its source says.

        Args:
            name: The network.
            own: What its source says.
            channels: C, what the network takes.
            found: Whether that was found by trying.
            known: Whether the source's mean and standard deviation are what it was trained with.
        """
        parts = []
        found = found and channels > 1  # of one channel nothing is lost: colour becomes luminance
        if found:
            parts = [f"{name} expects {channels} channels: only images with that many are read"]
        if (channels != own.channels or not known) and (self.mean is None or self.std is None):
            of_channels = self.applied_to(own, channels, name)
            said = (
                (f"mean {_listed(of_channels.mean)}", self.mean),
                (f"standard deviation {_listed(of_channels.std)}", self.std),
            )
            guessed = " and ".join(words for words, value in said if value is None)
            who = "" if found else f"{name}: images are "
            whose = _whose(own, channels)
            parts.append(f"{who}normalised with {guessed}{whose} (--mean, --std)")
        return "; ".join(parts) or None


def _listed(numbers: tuple[float, ...]) -> str:
    """The numbers of the channels as they are typed; one where all are the same."""
    several = numbers if len(set(numbers)) > 1 else numbers[:1]
    return ",".join(f"{number:.3g}" for number in several)


def _whose(own: Preprocess, channels: int) -> str:
    """Whose numbers stand in, where they are ImageNet's or their averages; ``""`` for others."""
    known = Preprocess()
    average = known.with_channels(channels)
    numbers = own.with_channels(channels)
    if (numbers.mean, numbers.std) == (average.mean, average.std):
        return ", ImageNet's" if channels == known.channels else ", ImageNet's averages"
    return ""


def _of_all(what: str, value: Numbers, channels: int, name: str) -> tuple[float, ...]:
    if not isinstance(value, tuple):
        return (value,) * channels
    if len(value) == 1:
        return value * channels
    if len(value) != channels:
        raise LcamError(
            f"--{what} has {len(value)} numbers, but {name} expects {plural(channels, 'channel')}",
            "pass one number" + (f", or {channels}" if channels > 1 else ""),
        )
    return value
