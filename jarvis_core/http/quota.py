"""What one key may use: requests at the same time, and tokens per minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from attrs import mutable

from jarvis_core.errors import RateLimited
from jarvis_core.http.auth import Caller

MINUTE = 60.0


@mutable
class _Account:
    """What one key has used.

    Attributes:
        running: Requests that are being answered.
        tokens: Tokens that it may still use now; less than 0 once an answer took more.
        counted: When ``tokens`` was right.
    """

    running: int = 0
    tokens: float = math.inf
    counted: float = 0.0


class Quotas:
    """The accounts of all keys that have limits.

    Tokens come back evenly, a minute's worth in a minute. What an answer takes is known when it
    has ended, so the last answer may overdraw the account; the next one waits for that.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def enter(self, caller: Caller) -> None:
        """Begin a request; it must leave.

        Raises:
            RateLimited: The key is over one of its limits.
        """
        key = caller.key
        if key is None:
            return
        account = self._account(caller)
        if key.max_concurrency is not None and account.running >= key.max_concurrency:
            raise RateLimited(
                f"this API key may have {key.max_concurrency} requests answered at the same time, "
                "and has",
                retry_after=1.0,
            )
        if key.tokens_per_minute is not None and account.tokens <= 0:
            raise RateLimited(
                f"this API key may use {key.tokens_per_minute:,} tokens per minute, and has",
                retry_after=max(0.1, self._until(1, account, key.tokens_per_minute)),
            )
        account.running += 1

    def leave(self, caller: Caller, *, tokens: int) -> None:
        """End a request that took so many tokens."""
        if caller.key is None:
            return
        account = self._account(caller)
        account.running -= 1
        account.tokens -= tokens
        if not account.running and caller.key.tokens_per_minute is None:
            del self._accounts[caller.key.name]

    def headers(self, caller: Caller) -> dict[str, str]:
        """What a caller with a limit of tokens has left, in OpenAI's headers."""
        key = caller.key
        if key is None or key.tokens_per_minute is None:
            return {}
        account, limit = self._account(caller), key.tokens_per_minute
        return {
            "x-ratelimit-limit-tokens": str(limit),
            "x-ratelimit-remaining-tokens": str(max(0, math.floor(account.tokens))),
            "x-ratelimit-reset-tokens": f"{self._until(limit, account, limit):.3f}s",
        }

    def _account(self, caller: Caller) -> _Account:
        """The account of a key, with the tokens that have come back since."""
        assert caller.key is not None
        limit = caller.key.tokens_per_minute
        account = self._accounts.setdefault(caller.key.name, _Account())
        if limit is None:
            account.tokens = math.inf
            return account
        now = self._clock()
        gained = (now - account.counted) * limit / MINUTE
        account.tokens = min(float(limit), account.tokens + gained)
        account.counted = now
        return account

    @staticmethod
    def _until(wanted: float, account: _Account, limit: int) -> float:
        """Seconds until the account holds that many tokens."""
        return max(0.0, (wanted - account.tokens) * MINUTE / limit)
