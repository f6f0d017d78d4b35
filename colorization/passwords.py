"""What may be shown of addresses and settings that may hold passwords."""

import re

_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|COOKIE|AUTH", re.IGNORECASE)
HIDDEN = "***"


def without_password(text: str) -> str:
    """Return an address, or a text with some in it, as it may be shown."""
    return re.sub(r"(?<=://)([^/\s:@]*):[^/\s]*@", rf"\1:{HIDDEN}@", text)


def shown(name: str, value: str) -> str:
    """Return the value of an environment variable as it may be shown."""
    return HIDDEN if _SECRET_NAMES.search(name) else without_password(value)
