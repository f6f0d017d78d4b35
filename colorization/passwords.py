"""What may be shown of addresses, settings and changed code that may hold passwords."""

import re

_SECRET = "KEY|TOKEN|SECRET|PASSW|CREDENTIAL|COOKIE|AUTH"
_SECRET_NAMES = re.compile(_SECRET, re.IGNORECASE)
# A name that is assigned to, in the languages of code and settings: `a.token: str = `, `"key": `.
_ASSIGNED = (
    rf"(?<![\w.-])[\w.-]*(?:{_SECRET})[\w.-]*[\"']?\]?"
    r"[ \t]*(?::[\w. |\[\]]{1,60}=|:=|[:=])[ \t]*"
)
_QUOTED = re.compile(
    rf"({_ASSIGNED}[a-z]{{0,2}})(\"\"\"|'''|\"|')(?:\\.|(?!\2).)*(\2|$)",
    re.IGNORECASE | re.MULTILINE,
)
_BARE = re.compile(rf"({_ASSIGNED})[^\s\"'].*$", re.IGNORECASE | re.MULTILINE)
HIDDEN = "***"


def without_password(text: str) -> str:
    """Return an address, or a text with some in it, as it may be shown.

    Of `://user:password@` the password is hidden, of `://token@`, which may be one, all of it.
    """
    text = re.sub(r"(?<=://)([^/\s:@]*):[^/\s]*@", rf"\1:{HIDDEN}@", text)
    return re.sub(r"(?<=://)[^/\s:@\"']+@", f"{HIDDEN}@", text)


def shown(name: str, value: str) -> str:
    """Return the value of an environment variable as it may be shown."""
    return HIDDEN if _SECRET_NAMES.search(name) else without_password(value)


def without_secrets(diff: str) -> str:
    """Return git's diff as it may be shown: without what is assigned to names that sound secret.

    Quoted values everywhere. Unquoted ones, to the end of their line, in all files but Python's,
    where they are expressions and no secrets. What begins on a later line than its name stays.
    """
    files = re.split(r"^(?=diff --git )", diff, flags=re.MULTILINE)
    return without_password("".join(map(_masked, files)))


def _masked(file: str) -> str:
    """Mask the diff of one file."""
    masked = _QUOTED.sub(rf"\1\2{HIDDEN}\3", file)
    if file.partition("\n")[0].endswith(".py"):
        return masked
    return _BARE.sub(rf"\1{HIDDEN}", masked)
