"""Every error a caller or an operator can meet.

    AcousticError                  code
    ├── InputError                 the caller's data or options; they may see the message
    │   ├── AudioDecodeError       audio_decode_failed   undecodable, truncated, absurd samples
    │   ├── UnsupportedAudioError  unsupported_audio     a container or layout not accepted
    │   ├── AudioTooShortError     audio_too_short
    │   ├── AudioTooLongError      audio_too_long        too many seconds or decoded bytes
    │   ├── SilentAudioError       silent_audio          nothing in it to classify
    │   ├── InvalidOptionError     invalid_option        unknown or out-of-range request option
    │   ├── InvalidRequestError    invalid_request       a body that is not what it says it is
    │   ├── UploadTooLargeError    upload_too_large
    │   ├── UploadTooSlowError     upload_too_slow
    │   ├── UnauthorizedError      unauthorized          no or a wrong API key
    │   ├── SourceForbiddenError   source_forbidden      a URI outside the allowed sources
    │   ├── SourceNotFoundError    source_not_found      nothing at a URI
    │   └── SourceCorruptError     source_corrupt        other bytes than were promised
    ├── SourceUnavailableError     source_unavailable    a store that does not answer
    ├── ServiceError               ours; a retry may help
    │   ├── OverloadedError        overloaded
    │   ├── UnavailableError       unavailable
    │   ├── RequestTimeoutError    timeout
    │   └── ClassificationError    classification_failed the model failed on this very item
    ├── CheckpointError            checkpoint_invalid    a model folder that cannot be used
    └── ConfigError                config_invalid        a configuration that cannot be used

The constructors take one positional message, so that every class survives pickling between
processes. A programmer's mistake stays a ValueError or TypeError.
"""

from __future__ import annotations


class AcousticError(Exception):
    """Root of all errors raised on purpose.

    Attributes:
        code: stable snake_case name that clients may test for.
    """

    code: str = "acoustic_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The sentence for the person who gets the error."""
        return str(self.args[0])


class InputError(AcousticError):
    """The caller's data or options are at fault; a retry of the same will fail again."""

    code = "invalid_input"


class AudioDecodeError(InputError):
    """The bytes claim a known format but cannot be decoded to sane samples."""

    code = "audio_decode_failed"


class UnsupportedAudioError(InputError):
    """The bytes are no accepted audio format, or a layout outside the limits."""

    code = "unsupported_audio"


class AudioTooShortError(InputError):
    """There is less audio than the shortest that is classified."""

    code = "audio_too_short"


class AudioTooLongError(InputError):
    """There is more audio than one request may hold."""

    code = "audio_too_long"


class SilentAudioError(InputError):
    """Every window that was decoded is silent."""

    code = "silent_audio"


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
    """The request's body came in more slowly than the limit in bytes per second."""

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
    """The bytes at the URI are not those that were promised: another size or checksum."""

    code = "source_corrupt"


class SourceUnavailableError(AcousticError):
    """A store did not answer, or broke off, however often it was asked."""

    code = "source_unavailable"


class ServiceError(AcousticError):
    """The service could not answer now; the same request may succeed later."""

    code = "service_error"


class OverloadedError(ServiceError):
    """The queues are full.

    Args:
        message: the sentence for the caller.
        retry_after_s: how long the caller should wait, in seconds.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(ServiceError):
    """A part of the service is gone or not ready yet."""

    code = "unavailable"


class RequestTimeoutError(ServiceError):
    """The answer took longer than the limit."""

    code = "timeout"


class ClassificationError(ServiceError):
    """The model failed on this item alone, after it was separated from its batch."""

    code = "classification_failed"


class CheckpointError(AcousticError):
    """A checkpoint folder is incomplete, damaged or does not fit the configuration."""

    code = "checkpoint_invalid"


class ConfigError(AcousticError):
    """A configuration value is unknown or cannot work."""

    code = "config_invalid"
