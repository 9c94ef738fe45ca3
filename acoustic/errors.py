"""Every error that a caller or an operator can get.

    AcousticError                  code
    ├── InputError                 the caller's data or options; they may see the message
    │   ├── AudioDecodeError       audio_decode_failed   undecodable, truncated, absurd samples
    │   ├── UnsupportedAudioError  unsupported_audio     a container or layout not accepted
    │   ├── AudioTooShortError     audio_too_short
    │   ├── AudioTooLongError      audio_too_long        too many seconds or decoded bytes
    │   ├── SilentAudioError       silent_audio          nothing in it to classify
    │   ├── FileUnreadableError    file_unreadable       a local file that is missing or denied
    │   ├── InvalidOptionError     invalid_option        unknown or out-of-range request option
    │   ├── InvalidRequestError    invalid_request       a body that does not match its content type
    │   ├── UploadTooLargeError    upload_too_large
    │   ├── UploadTooSlowError     upload_too_slow
    │   ├── UnauthorizedError      unauthorized          a missing or wrong API key
    │   ├── SourceForbiddenError   source_forbidden      a URI outside the allowed sources
    │   ├── SourceNotFoundError    source_not_found      nothing at a URI
    │   └── SourceCorruptError     source_corrupt        another size or checksum than stated
    ├── SourceUnavailableError     source_unavailable    a store that does not answer
    ├── ServiceError               the service's fault; a retry may help
    │   ├── OverloadedError        overloaded
    │   ├── UnavailableError       unavailable
    │   ├── RequestTimeoutError    timeout
    │   ├── ModelMismatchError     model_mismatch        stages of two versions met in a rollout
    │   └── ClassificationError    classification_failed the model failed on this one item
    ├── CheckpointError            checkpoint_invalid    a model folder that cannot be used
    └── ConfigError                config_invalid        a configuration that cannot be used

The constructors take one positional message, so that every class survives pickling between
processes. A programming mistake is a ValueError or TypeError.
"""

from __future__ import annotations


class AcousticError(Exception):
    """Base class of all errors raised on purpose.

    Attributes:
        code: stable snake_case name that clients may test for.
        file: name of the input that the error is about; set where several are processed.
    """

    code: str = "acoustic_error"
    file: str = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The error message, one sentence for the person who gets the error."""
        return str(self.args[0])


class InputError(AcousticError):
    """The caller's data or options are wrong; the same request will fail again."""

    code = "invalid_input"


class AudioDecodeError(InputError):
    """The bytes are of a known format but cannot be decoded to valid samples."""

    code = "audio_decode_failed"


class UnsupportedAudioError(InputError):
    """The audio format is not accepted, or its sample rate or channels are outside the limits."""

    code = "unsupported_audio"


class AudioTooShortError(InputError):
    """The audio is shorter than the shortest track that is classified."""

    code = "audio_too_short"


class AudioTooLongError(InputError):
    """The audio is longer than one request may be, in seconds or decoded bytes."""

    code = "audio_too_long"


class SilentAudioError(InputError):
    """Every window that was decoded is silent."""

    code = "silent_audio"


class FileUnreadableError(InputError):
    """A local file does not exist, is a folder or may not be read."""

    code = "file_unreadable"


class InvalidOptionError(InputError):
    """A request option is unknown, of the wrong type or out of range."""

    code = "invalid_option"


class InvalidRequestError(InputError):
    """The request's body is empty, malformed or not what its content type says."""

    code = "invalid_request"


class UploadTooLargeError(InputError):
    """The request's body is larger than the limit in bytes."""

    code = "upload_too_large"


class UploadTooSlowError(InputError):
    """The request's body arrived more slowly than the limit in bytes per second."""

    code = "upload_too_slow"


class UnauthorizedError(InputError):
    """The request carries no API key, or a wrong one."""

    code = "unauthorized"


class SourceForbiddenError(InputError):
    """The URI is not among the sources that the operator allows."""

    code = "source_forbidden"


class SourceNotFoundError(InputError):
    """There is nothing at the URI."""

    code = "source_not_found"


class SourceCorruptError(InputError):
    """The bytes at the URI have another size or checksum than was stated."""

    code = "source_corrupt"


class SourceUnavailableError(AcousticError):
    """A store did not answer, or not completely, after all retries."""

    code = "source_unavailable"


class ServiceError(AcousticError):
    """The service could not answer now; the same request may succeed later."""

    code = "service_error"


class OverloadedError(ServiceError):
    """The queues are full.

    Args:
        message: error message for the caller, one sentence.
        retry_after_s: how long the caller should wait, in seconds.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(ServiceError):
    """A part of the service is not running or not ready yet."""

    code = "unavailable"


class RequestTimeoutError(ServiceError):
    """The answer took longer than the limit."""

    code = "timeout"


class ModelMismatchError(ServiceError):
    """Two stages of the service have different models, as while one replaces another."""

    code = "model_mismatch"


class ClassificationError(ServiceError):
    """The model failed on this item alone, after it was separated from its batch."""

    code = "classification_failed"


class CheckpointError(AcousticError):
    """A checkpoint folder is incomplete, damaged or does not fit the configuration."""

    code = "checkpoint_invalid"


class ConfigError(AcousticError):
    """A configuration value is unknown or cannot work."""

    code = "config_invalid"


def error_of_code(code: str, message: str) -> AcousticError:
    """The error of a code; a ServiceError for one that is unknown.

    Args:
        code: stable name of the error.
        message: its sentence.
    """
    return _by_code(AcousticError).get(code, ServiceError)(message)


def _by_code(cls: type[AcousticError]) -> dict[str, type[AcousticError]]:
    found = {cls.code: cls}
    for each in cls.__subclasses__():
        found |= _by_code(each)
    return found
