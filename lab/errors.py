"""What a lab refuses or cannot do, said so that the reader knows what to do next."""

from pathlib import Path

from lab import spelling


class LabError(Exception):
    """The lab could not do what was asked. `remedy` is a sentence, or a command to type."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem


class OptionError(LabError):
    """An option that cannot be: names it, its value and what would do."""

    def __init__(self, option: str, value: object, what: str) -> None:
        super().__init__(f"{option} {value}: {what}")
        self.option = option
        self.value = value


class MissingLabError(LabError):
    def __init__(self, folder: Path, *, others: tuple[str, ...] = ()) -> None:
        there = f"There are: {', '.join(others)}. " if others else ""
        super().__init__(
            f"there is no lab {folder.name!r} in {folder.parent}", f"{there}Make it: {spelling.command('up', folder)}"
        )


class StepError(LabError):
    """A step of bringing a lab up did not come to its end; `log` is the file that says why."""

    def __init__(self, step: str, problem: str, *, log: Path | None = None, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.step = step
        self.log = log

    def __str__(self) -> str:
        return f"{self.step}: {super().__str__()}"
