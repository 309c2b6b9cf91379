"""Errors that a person can act on: one line with what was expected, what was found and what to do."""


class FastVLMError(Exception):
    """Base of every error that fastvlm raises on purpose; its text is one line, fit to be shown as it is."""

    exit_code = 1


class ImageError(FastVLMError):
    """A picture that cannot be read, or that is too large."""


class PromptError(FastVLMError):
    """Messages that do not fit the template, the images or the context length."""


class CheckpointError(FastVLMError):
    """A model folder or hub id with missing, unexpected or misshaped content."""


class MissingExtraError(FastVLMError):
    """An optional dependency that is not installed; the text carries the install command."""


class GenerationError(FastVLMError):
    """Generation settings that make no sense, or numbers that are not finite."""


class DataError(FastVLMError):
    """Training or evaluation data that cannot be used; the text names the sample."""


class TrainingError(FastVLMError):
    """A training run that cannot start or go on."""


class SettingsError(TrainingError):
    """Settings of a run that do not go together."""

    exit_code = 2


def one_line(error: BaseException | str, *, max_length: int | None = None) -> str:
    """The text of an error without line ends, or its kind where it has none; cut where it is longer than wanted."""
    text = " ".join(str(error).split())
    if not text and isinstance(error, BaseException):
        text = type(error).__name__
    return text if max_length is None or len(text) <= max_length else text[: max_length - 3] + "..."


def require_extra(module: str, extra: str) -> None:
    """Raise MissingExtraError unless the optional dependency `module` of `fastvlm[extra]` can be imported."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise MissingExtraError(
            f"This needs {module}, which is not installed. Install it with: pip install 'fastvlm[{extra}]', or "
            f"'.[{extra}]' in a checkout."
        )
