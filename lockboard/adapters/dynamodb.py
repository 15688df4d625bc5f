"""One lock table, read within a budget: the port `LockTable` over boto3.

A consistent Scan costs a read unit for every 4 KB and would gladly take all that a small table has, just when
Terraform wants its lock. So on a table with provisioned capacity Lockboard takes at most a quarter of it on
average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from lockboard.adapters import fast_pages
from lockboard.adapters.aws import READ_FAILURES, THROTTLES, Meter, translate, unread
from lockboard.adapters.fast_pages import items_of
from lockboard.adapters.listing import PageGuard
from lockboard.domain.errors import AccessDenied, ReadError
from lockboard.domain.model import Unread
from lockboard.domain.ports import Clock, TableItem

SHARE = 0.25
"""Of the provisioned read capacity, at most this much on average."""
PAGE_SECONDS = 1.0
"""One page costs about as much as the whole table may give in this time, out of what went unused before."""
ASSUMED_UNITS = 25.0
"""Read units a second taken for granted where DescribeTable is denied: AWS's console offers 5, its free tier
ends at 25.
"""
ASSUMED_ITEM_BYTES = 400
"""A lock item has about 450 bytes, a digest item about 130."""
BYTES_PER_UNIT = 4096
DESCRIBE_EVERY_SECONDS = 3600.0
MAX_PAGES = 100_000

_SCAN, _GET, _DESCRIBE = "dynamodb:Scan", "dynamodb:GetItem", "dynamodb:DescribeTable"
_PROJECTION = {
    "ProjectionExpression": "#lock, #info, #digest",
    "ExpressionAttributeNames": {"#lock": "LockID", "#info": "Info", "#digest": "Digest"},
    "ConsistentRead": True,
    "ReturnConsumedCapacity": "TOTAL",
}


class DynamoLockTable:
    """Reads one lock table.

    Args:
        client: a DynamoDB client that belongs to this reader alone, since its requests are counted.
        monotonic: seconds that only go forward.
        sleep: waits so many seconds; called between pages of a table with provisioned capacity.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        clock: Clock,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        *,
        max_pages: int = MAX_PAGES,
    ) -> None:
        self._client, self._table = client, table
        self._monotonic, self._sleep, self._max_pages = monotonic, sleep, max_pages
        self._budget: _Budget | None = None
        self._described_at: float | None = None
        self._free_at = monotonic()
        fast_pages.install(client)
        # A retry would take capacity again from a table that has just said it has none.
        client.meta.events.register("needs-retry.dynamodb.Scan", _no_retry_of_throttles)
        self.requests = Meter(clock, client).requests

    def scan_pages(self) -> Iterator[Sequence[TableItem]]:
        """See `LockTable.scan_pages`. A throttled scan stops at once and raises Throttled."""
        budget = self._read_budget()
        guard = PageGuard(_SCAN, self._max_pages)
        start: dict[str, Any] = {}
        limit = budget.first_limit() if budget else None
        while True:
            self._wait()
            sized = {"Limit": limit} if limit else {}
            answer = self._ask("scan", _SCAN, **_PROJECTION, **sized, **start)
            rows = items_of(answer)
            if rows is None:
                raise ReadError(_SCAN, "NotAListing", "the answer is not a listing")
            if budget:
                units = self._spend(budget, answer)
                limit = budget.next_limit(units, answer.get("ScannedCount") or len(rows))
            following = answer.get("LastEvaluatedKey")
            token = guard.next(rows[0].lock_id if rows else None, following is not None, _frozen(following))
            yield rows
            if token is None:
                return
            start = {"ExclusiveStartKey": following}

    def item(self, lock_id: str) -> TableItem | None | Unread:
        """See `LockTable.item`. Never waits for the budget, but the next scan pays for it."""
        try:
            answer = self._ask("get_item", _GET, Key={"LockID": {"S": lock_id}}, **_PROJECTION)
        except ReadError as error:
            return unread(error)
        rows = items_of(answer)
        if rows is None:
            return Unread("the answer is not an item", "NotAnItem")
        if self._budget:
            self._spend(self._budget, answer)
        return rows[0] if rows else None

    def _ask(self, method: str, action: str, **parameters: Any) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = getattr(self._client, method)(TableName=self._table, **parameters)
        except READ_FAILURES as error:
            raise translate(error, action) from None
        return answer

    # -------------------------------------------------------------- budget

    def _read_budget(self) -> _Budget | None:
        """What DescribeTable says, asked once an hour; None where reads cost money but take nothing from
        anybody.
        """
        now = self._monotonic()
        if self._described_at is not None and now - self._described_at < DESCRIBE_EVERY_SECONDS:
            return self._budget
        try:
            self._budget = _budget_of(self._ask("describe_table", _DESCRIBE).get("Table"))
        except AccessDenied:
            self._budget = _Budget(ASSUMED_UNITS)
        self._described_at = now
        return self._budget

    def _wait(self) -> None:
        early = self._free_at - self._monotonic()
        if early > 0:
            self._sleep(early)

    def _spend(self, budget: _Budget, answer: Mapping[str, Any]) -> float:
        units = _units(answer)
        self._free_at = max(self._free_at, self._monotonic()) + units / (budget.units * SHARE)
        return units


@dataclass(frozen=True, slots=True)
class _Budget:
    """Read units a second that the table gives, and the mean size of its items in bytes."""

    units: float
    item_bytes: float = ASSUMED_ITEM_BYTES

    def first_limit(self) -> int:
        return self._limit(self.item_bytes / BYTES_PER_UNIT)

    def next_limit(self, units: float, items: int) -> int:
        """The size of the next page, from what the last one cost."""
        return self._limit(units / items if items else self.item_bytes / BYTES_PER_UNIT)

    def _limit(self, units_per_item: float) -> int:
        return max(1, int(self.units * PAGE_SECONDS / units_per_item))


def _budget_of(table: Mapping[str, Any] | None) -> _Budget | None:
    if not table:
        raise ReadError(_DESCRIBE, "NotATable", "the answer does not describe a table")
    on_demand = table.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST"
    if on_demand:
        units = table.get("OnDemandThroughput", {}).get("MaxReadRequestUnits", -1)
    else:
        units = table.get("ProvisionedThroughput", {}).get("ReadCapacityUnits", 0)
    if units <= 0:
        return None if on_demand else _Budget(ASSUMED_UNITS)
    count, size = table.get("ItemCount", 0), table.get("TableSizeBytes", 0)
    # Both are up to six hours old; a guess that is too high only makes the first page small.
    return _Budget(float(units), max(ASSUMED_ITEM_BYTES, size / count if count else 0))


def _units(answer: Mapping[str, Any]) -> float:
    """Read units of an answer; by its length where the service did not say."""
    units = answer.get("ConsumedCapacity", {}).get("CapacityUnits")
    if units is not None:
        return float(units)
    length = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-length", "0")
    return float(max(1, ceil(int(length) / BYTES_PER_UNIT)))


def _frozen(key: Mapping[str, Mapping[str, Any]] | None) -> tuple[object, ...] | None:
    """A LastEvaluatedKey as something that can be compared and remembered."""
    return None if key is None else tuple(sorted((name, repr(value)) for name, value in key.items()))


def _no_retry_of_throttles(response: Any, **_: object) -> bool | None:
    """For `needs-retry`: False ends the attempts, None leaves the decision to botocore."""
    if response is None:
        return None
    return False if response[1].get("Error", {}).get("Code") in THROTTLES else None
