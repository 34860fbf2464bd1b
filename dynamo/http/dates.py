"""HTTP dates, both ways (RFC 9110, 5.6.7). Knows nothing of the present time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from dynamo.errors import InvalidArgument

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SECONDS_MAX = 253_402_300_799  # the end of the year 9999
_FORMATS = (
    # IMF-fixdate, and the two obsolete forms that a recipient must still take.
    re.compile(
        r"(?P<name>[A-Z][a-z]{2}), (?P<day>[0-9]{2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4}) "
        r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}) GMT"
    ),
    re.compile(
        r"(?P<name>[A-Z][a-z]{5,8}), (?P<day>[0-9]{2})-(?P<month>[A-Z][a-z]{2})-(?P<year>[0-9]{2}) "
        r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}) GMT"
    ),
    re.compile(
        r"(?P<name>[A-Z][a-z]{2}) (?P<month>[A-Z][a-z]{2}) (?P<day>[ 0-9][0-9]) "
        r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2}) (?P<year>[0-9]{4})"
    ),
)


@lru_cache(maxsize=4096)
def format_date(seconds: int) -> bytes:
    """IMF-fixdate of seconds since 1970; what lies outside the years 1970 to 9999 is clamped."""
    at = datetime.fromtimestamp(min(max(seconds, 0), _SECONDS_MAX), UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} GMT"
    ).encode("ascii")


def parse_date(text: str, field: str) -> int:
    """Seconds since 1970, negative before. Raises InvalidArgument that names `field`."""
    for form in _FORMATS:
        match = form.fullmatch(text)
        if match is not None and match["name"][:3] in _DAYS and match["month"] in _MONTHS:
            hour, minute, second = map(int, match["time"].split(":"))
            year = int(match["year"])
            if len(match["year"]) == 2:
                # No date of this store is older than 1970, so two digits need no present time.
                year += 2000 if year < 70 else 1900
            try:
                at = datetime(
                    year,
                    _MONTHS.index(match["month"]) + 1,
                    int(match["day"]),
                    hour,
                    minute,
                    min(second, 59),  # 60 is a leap second
                    tzinfo=UTC,
                )
            except ValueError:
                break
            if second <= 60:
                return int(at.timestamp())
    raise InvalidArgument(
        f"{field} is not an HTTP date", field=field, allowed="Sun, 06 Nov 1994 08:49:37 GMT"
    )
