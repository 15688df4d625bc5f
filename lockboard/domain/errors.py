"""Why something could not be read: reasons that carry data.

LockboardError
├── SettingsError        a setting is wrong; names it and says what is allowed
├── ReadError            AWS did not answer a read
│   ├── AccessDenied     …because a permission is missing; names the IAM action
│   ├── Throttled        …because it asks us to slow down
│   └── Unreachable      …because no answer came (network, time-out, expired credentials)
└── StoreError           the inventory's database cannot be used
"""

from __future__ import annotations


class LockboardError(Exception):
    """Base of all; its text is fit to show to an operator."""


class SettingsError(LockboardError):
    """A setting is missing or wrong."""


class StoreError(LockboardError):
    """The inventory's database cannot be opened, is of another version, or refused a statement."""


class ReadError(LockboardError):
    """A read of S3 or DynamoDB failed.

    Args:
        operation: the IAM action, such as `s3:ListBucket`.
        code: the service's error code, such as `NoSuchBucket`.
        detail: the service's own words, fit to show.
    """

    def __init__(self, operation: str, code: str, detail: str) -> None:
        super().__init__(f"{operation}: {code}: {detail}" if detail else f"{operation}: {code}")
        self.operation, self.code, self.detail = operation, code, detail


class AccessDenied(ReadError):
    """The role lacks `operation` on this resource."""


class Throttled(ReadError):
    """The service asked for fewer requests, and the bounded retries were used up."""


class Unreachable(ReadError):
    """No answer came from the service."""
