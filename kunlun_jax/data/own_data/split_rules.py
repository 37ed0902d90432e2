"""Which of your own requests are for training, validation and test."""

import dataclasses
import datetime

from kunlun_jax.data.schema import SchemaError


@dataclasses.dataclass(frozen=True)
class ByTime:
    """The last requests are for the test, those before them for validation.

    Requests of one second stay together.

    Attributes:
        validation: Share of the requests.
        test: Share of the requests.
    """

    validation: float = 0.1
    test: float = 0.1


@dataclasses.dataclass(frozen=True)
class ByDate:
    """Validation and test begin on given days.

    Attributes:
        validation: First day (UTC) of validation, as "2024-03-01".
        test: First day of the test.
    """

    validation: str
    test: str

    def seconds(self) -> tuple[int, int]:
        """Return both starts as Unix seconds.

        Raises:
            SchemaError: If one is not a date.
        """
        try:
            days = [datetime.date.fromisoformat(day) for day in (self.validation, self.test)]
        except (TypeError, ValueError) as error:
            raise SchemaError(f"split: expected dates as '2024-03-01': {error}") from error
        moments = [datetime.datetime.combine(d, datetime.time(), datetime.UTC) for d in days]
        return int(moments[0].timestamp()), int(moments[1].timestamp())


@dataclasses.dataclass(frozen=True)
class ByUser:
    """Every user belongs to one split, by a hash.

    Attributes:
        validation: Share of the users.
        test: Share of the users.
        seed: Seed of the hash.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0


DEFAULT_SPLIT = ByTime()


def check_split(split: ByTime | ByDate | ByUser) -> None:
    """Refuse a split that leaves one of the three parts nothing.

    Raises:
        SchemaError: If validation does not begin before the test, or shares are out of range.
    """
    if isinstance(split, ByDate):
        validation, test = split.seconds()
        if validation >= test:
            raise SchemaError(
                f"split: expected validation before test, got {split.validation}, {split.test}"
            )
    elif min(split.validation, split.test) <= 0 or split.validation + split.test >= 1:
        raise SchemaError(
            "split: expected positive shares whose sum is below 1, got "
            f"{split.validation} and {split.test}"
        )
