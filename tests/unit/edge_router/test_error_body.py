"""What providers' errors are about, in the shapes that they document."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.error_body import MAX_ERROR_BYTES, TOLD_STATUSES, About, Told, read_error

GOOGLE = "type.googleapis.com/google.rpc."


def envelope(**error: object) -> bytes:
    return msgspec.json.encode({"error": error})


def google(code: int, status: str, message: str, *details: dict[str, object]) -> bytes:
    return envelope(code=code, status=status, message=message, details=list(details))


def anthropic(kind: str, message: str) -> bytes:
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


@pytest.mark.parametrize(
    ("status", "body", "about"),
    [
        (400, envelope(code="context_length_exceeded", type="invalid_request_error"), About.TOO_LONG),
        (
            400,
            anthropic("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
            About.TOO_LONG,
        ),
        (
            400,
            anthropic(
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 1 + 2 > 2, decrease input length",
            ),
            About.TOO_LONG,
        ),
        (
            400,
            google(400, "INVALID_ARGUMENT", "The input token count (2) exceeds the maximum number of tokens"),
            About.TOO_LONG,
        ),
        (
            400,
            envelope(
                code=400, type="BadRequestError", message="This model's maximum context length is 4096 tokens."
            ),
            About.TOO_LONG,
        ),
        (400, envelope(code="content_policy_violation", message="no"), About.OTHER),
        (400, envelope(code="invalid_value", message="the prompt is too long"), About.OTHER),
        (400, google(400, "INVALID_ARGUMENT", "contents is not specified"), About.OTHER),
        (404, envelope(code="model_not_found", message="The model `x` does not exist"), About.NO_MODEL),
        (404, envelope(code=404, type="NotFoundError", message="The model `x` does not exist."), About.NO_MODEL),
        (404, envelope(code="DeploymentNotFound", message="no"), About.NO_MODEL),
        (404, anthropic("not_found_error", "model: claude-0"), About.NO_MODEL),
        (404, google(404, "NOT_FOUND", "models/gemini-0 is not found for API version v1beta"), About.NO_MODEL),
        (404, envelope(code="previous_response_not_found", message="no"), About.OTHER),
        (404, anthropic("not_found_error", "file: not there"), About.OTHER),
        # The code means what its status lets it mean: never a 400 that names a model.
        (400, envelope(code="model_not_found"), About.OTHER),
        (429, envelope(code="insufficient_quota", type="insufficient_quota"), About.QUOTA),
        (429, envelope(code="billing_hard_limit_reached"), About.QUOTA),
        (429, envelope(code="rate_limit_exceeded", message="insufficient_quota is another thing"), About.OTHER),
        (402, anthropic("billing_error", "pay"), About.QUOTA),
        (402, b"", About.QUOTA),
        (
            400,
            anthropic("invalid_request_error", "Your credit balance is too low to access the API."),
            About.QUOTA,
        ),
        (
            429,
            google(
                429,
                "RESOURCE_EXHAUSTED",
                "quota",
                {
                    "@type": GOOGLE + "QuotaFailure",
                    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
                },
            ),
            About.QUOTA,
        ),
        (429, b"not json", About.OTHER),
        (429, b"[]", About.OTHER),
        (429, b'{"error":"insufficient_quota"}', About.OTHER),
        (429, b"[" * 100_000, About.OTHER),
    ],
)  # fmt: skip
def test_what_an_error_is_about(status: int, body: bytes, about: About) -> None:
    """By its code or type, else by the documented beginning of its message."""
    assert read_error(status, body).about is about


def test_google_says_how_long_to_wait() -> None:
    """RetryInfo beside a quota that is counted by the minute; also in a list, as it is sent at times."""
    body = google(
        429,
        "RESOURCE_EXHAUSTED",
        "quota",
        {"@type": GOOGLE + "QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerMinute"}]},
        {"@type": GOOGLE + "RetryInfo", "retryDelay": "34.074824224s"},
    )
    assert read_error(429, body) == Told(About.OTHER, 34.074824224)
    assert read_error(429, b"[" + body + b"]") == Told(About.OTHER, 34.074824224)


def test_what_is_too_large_is_not_read() -> None:
    """Reading is bounded."""
    body = envelope(code="insufficient_quota", message="x" * MAX_ERROR_BYTES)
    assert read_error(429, body).about is About.OTHER


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "details", "@type", "violations", "message"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(TOLD_STATUSES)), _JSON)
def test_any_json_is_taken(status: int, value: object) -> None:
    """Whatever a target sends, reading it ends well."""
    assert read_error(status, msgspec.json.encode(value)).about in About
    assert read_error(status, msgspec.json.encode({"error": value})).about in About
