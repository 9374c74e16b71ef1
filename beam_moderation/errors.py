"""What can go wrong, each with the stable code that dead letters and metrics carry.

```
ModerationError
├── ConfigurationError        the operator's mistake: stops the job, never blamed on an image
├── ReferenceInvalid          stage "read"
├── DecoderUnavailable        retryable: the bundle fails and is done again
├── FetchError                stage "fetch"
│   ├── FetchNotFound
│   ├── FetchForbidden
│   ├── FetchStatus
│   ├── FetchTimeout          retryable
│   ├── FetchUnavailable      retryable
│   ├── FetchTooLarge
│   ├── UriInvalid
│   ├── SchemeRefused
│   ├── AddressRefused
│   └── RedirectRefused
├── ImageError                stage "decode"
│   ├── ImageEmpty
│   ├── FormatUnsupported
│   ├── ImageBroken
│   ├── ImageTooManyPixels
│   ├── DecoderCrashed
│   ├── DecoderTimeout        retryable: the machine may have been busy
│   └── OutOfMemory           retryable: others may have had it
├── JudgeError                stage "judge"
└── VendorError               stage "vendor"
    ├── VendorThrottled       retryable, after a pause
    ├── VendorUnavailable     retryable, a few times
    │   └── VendorUnreached   retryable: nothing was sent
    ├── VendorTimeout         retryable
    ├── VendorAnswerMalformed retryable
    ├── VendorTaskGone        retryable, as a new task
    ├── VendorRefusedInput
    ├── VendorFailedInput     asked once more by the lane, and no more after that
    └── VendorRefusedRequest  a wrong key or a wrong option: stops the job
        └── VendorRefusedLogin   a token that ended is renewed once
```

A message is for people and may change; it never holds a response body, a key or a signed query
string.
"""

from typing import ClassVar


class ModerationError(Exception):
    """The root of the package's errors."""

    stage: ClassVar[str] = "moderate"
    code: str = "error"
    retryable: ClassVar[bool] = False


class ConfigurationError(ModerationError):
    """A mistake of the operator's; the message says in one line what to change."""

    code = "configuration"


READ_CODES = {
    "id-missing": "the id is null or empty",
    "id-duplicate": "an earlier reference has the id",
    "uri-missing": "there is neither a URI nor content",
    "type-wrong": "a column or field has a type that it must not have",
    "text-not-utf-8": "a text is not UTF-8",
    "text-too-long": "an id or a URI is far too long",
    "time-out-of-range": "a time is outside the years 1 to 9999",
    "time-malformed": "a message's time is neither milliseconds nor ISO 8601",
    "content-not-base64": "a message's content is text, and not base64",
    "message-tombstone": "a message has no value",
    "message-empty": "a message's value has no bytes",
    "message-too-large": "a message is above the limit",
    "message-not-utf-8": "a message is to be text, and is not UTF-8",
    "message-malformed": "a message cannot be decoded",
    "message-schema-unknown": "a message has another form than what is decoded",
    "messages-lost": "the broker deleted messages before they were read",
}
"""Why a reference could not be read. A decoder of one's own may add others."""


class ReferenceInvalid(ModerationError):
    """A reference without a usable id or place; `code`, of `READ_CODES`, says which."""

    stage = "read"
    code = "reference-invalid"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DecoderUnavailable(ModerationError):
    """What a decoder of messages needs, a schema registry say, does not answer.

    No message is to blame, so none becomes a dead letter.
    """

    stage = "read"
    code = "decoder-unavailable"
    retryable = True


class FetchError(ModerationError):
    """The bytes of a reference could not be had."""

    stage = "fetch"
    code = "fetch-failed"
    attempts: int = 1
    """How often it was tried."""


class FetchNotFound(FetchError):
    """There is nothing at the URI."""

    code = "fetch-not-found"


class FetchForbidden(FetchError):
    """The source does not let us read the URI."""

    code = "fetch-forbidden"


class FetchStatus(FetchError):
    """The source's answer cannot be used: its status is not 200, or its body is compressed."""

    code = "fetch-status"


class FetchTimeout(FetchError):
    """The exchange took longer than its deadline."""

    code = "fetch-timeout"
    retryable = True


class FetchUnavailable(FetchError):
    """The source cannot be reached, or answered 429 or 5xx."""

    code = "fetch-unavailable"
    retryable = True


class FetchTooLarge(FetchError):
    """More bytes than the limit."""

    code = "fetch-too-large"


class UriInvalid(FetchError):
    """The URI cannot be parsed, or holds what it must not."""

    code = "uri-invalid"


class SchemeRefused(FetchError):
    """No filesystem was configured for the URI's scheme, host, root or bucket."""

    code = "scheme-refused"


class AddressRefused(FetchError):
    """The address, or the port, that would be dialled is not allowed."""

    code = "address-refused"


class RedirectRefused(FetchError):
    """Too many redirects, or one to where none may lead."""

    code = "redirect-refused"


class ImageError(ModerationError):
    """The bytes are not an image that can be judged."""

    stage = "decode"
    code = "image-invalid"


class ImageEmpty(ImageError):
    """There are no bytes."""

    code = "image-empty"


class FormatUnsupported(ImageError):
    """The bytes begin like no format of the allow-list."""

    code = "format-unsupported"


class ImageBroken(ImageError):
    """The decoder refused the bytes, or they end early."""

    code = "image-broken"


class ImageTooManyPixels(ImageError):
    """Decoding would take more pixels, or a longer side, than the limits allow."""

    code = "image-too-many-pixels"


class DecoderCrashed(ImageError):
    """The decoder took its process down."""

    code = "decoder-crashed"


class DecoderTimeout(ImageError):
    """The decoder did not come to an end in time."""

    code = "decoder-timeout"
    retryable = True


class OutOfMemory(ImageError):
    """The memory for decoding could not be had."""

    code = "out-of-memory"
    retryable = True


class JudgeError(ModerationError):
    """A model or scanner failed on an image."""

    stage = "judge"
    code = "judge-failed"


class VendorError(ModerationError):
    """A vendor gave no verdict."""

    stage = "vendor"
    code = "vendor-failed"

    def __init__(self, message: str, *, vendor_code: str = "") -> None:
        super().__init__(message)
        self.vendor_code = vendor_code
        """The vendor's own code, as it spells it; empty when it gave none."""


class VendorThrottled(VendorError):
    """The vendor asked for fewer calls; `retry_after_s` is its own wish, when it has one."""

    code = "vendor-throttled"
    retryable = True

    def __init__(
        self, message: str, *, vendor_code: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, vendor_code=vendor_code)
        self.retry_after_s = retry_after_s


class VendorUnavailable(VendorError):
    """The vendor could not be reached, or failed on its side."""

    code = "vendor-unavailable"
    retryable = True


class VendorUnreached(VendorUnavailable):
    """Nothing was sent, so nothing was judged or billed."""


class VendorTimeout(VendorError):
    """The vendor did not answer, or did not finish a task, before the deadline.

    Whether it did the work, and charges for it, is not known.
    """

    code = "vendor-timeout"
    retryable = True


class VendorAnswerMalformed(VendorError):
    """The vendor's answer cannot be understood."""

    code = "vendor-answer-malformed"
    retryable = True


class VendorTaskGone(VendorError):
    """The vendor knows the task no longer, or never did: its result is lost."""

    code = "vendor-task-gone"
    retryable = True


class VendorRefusedInput(VendorError):
    """The vendor will never judge this image."""

    code = "vendor-refused-input"


class VendorFailedInput(VendorError):
    """The vendor failed on this image, and most likely would again."""

    code = "vendor-failed-input"


class VendorRefusedRequest(VendorError):
    """The vendor refuses the account, the key or the request as such."""

    code = "vendor-refused-request"


class VendorRefusedLogin(VendorRefusedRequest):
    """The vendor does not take the key or the login token; a token that ended is renewed once."""

    code = "vendor-refused-login"


def codes() -> set[str]:
    """The codes of dead letters of references that could be read."""
    kinds: list[type[ModerationError]] = [FetchError, ImageError, JudgeError, VendorError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return {ModerationError.code, *(kind.code for kind in kinds if not kind.__subclasses__())}
